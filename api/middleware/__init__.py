"""What every request passes, outermost first: request id, metrics and access log, errors, key, limits. Pure ASGI."""
