"""What every request passes, outermost first: request id, metrics and log, drain, errors, key, limits. Pure ASGI."""
