"""`python -m api.cli` is `vss`."""

from __future__ import annotations

from api.cli.main import app

app()
