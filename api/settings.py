"""The settings of a server. Each can be given as an environment variable, `VSS_` and its name in capitals."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read once, at the start. A list is given as JSON: `VSS_MODELS='["all-MiniLM-L6-v2"]'`."""

    model_config = SettingsConfigDict(env_prefix="VSS_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=6333, ge=0, le=65535, description="0 takes a free one")
    data: Path = Path("vss-data")
    api_key: SecretStr | None = Field(default=None, description="without one the server asks for none")
    models: tuple[str, ...] | None = Field(default=None, description="embedders; None: those that need no network")
    rerankers: tuple[str, ...] | None = Field(default=None, description="None: all that the models allow")
    threads: int = Field(default_factory=lambda: len(os.sched_getaffinity(0)), ge=1, description="of models and jobs")
    max_body_bytes: int = Field(default=32 << 20, ge=1024)
    max_in_flight: int = Field(default=1024, ge=1, description="requests at once; more get 429")
    drain_seconds: float = Field(default=1.0, ge=0, le=8, description="from SIGTERM until new connections are refused")
    access_log: bool = Field(default=False, description="log every request, not only those that fail with 5xx")
