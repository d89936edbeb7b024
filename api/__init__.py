"""Every face of the service: HTTP here, the command line in `api.cli`; `api.wiring` puts the parts together."""
