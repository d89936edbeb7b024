"""Clients that others wrote, unmodified, against a running server."""
