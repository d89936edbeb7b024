"""The settings of a server. Each can be given as an environment variable, `VSS_` and its name in capitals.

A list is given with commas: `VSS_MODELS=all-MiniLM-L6-v2,hashing`.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import msgspec
from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from vss.cores import usable_cores
from vss.defaults import BUILD_SHARE, KEEP, MAX_UNINDEXED, MIN_RECALL
from vss.errors import invalid

ELSEWHERE = frozenset(
    {"VSS_LOG", "VSS_DEBUG", "VSS_LIFELINE", "VSS_PRECISION", "VSS_ROLE", "VSS_RUN_FOLDER", "VSS_WRITE_DOCS"}
)
"""Variables that are read by others than the settings."""

log = logging.getLogger("vss.server")


def _split(value: object) -> object:
    """A list as people write it in an environment variable: with commas, or as JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return msgspec.json.decode(value)
    return tuple(filter(None, (one.strip() for one in value.split(","))))


class Settings(BaseSettings):
    """Read once, at the start, by `read_settings`."""

    model_config = SettingsConfigDict(env_prefix="VSS_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=6333, ge=0, le=65535, description="0 takes a free one")
    data: Path = Path("vss-data")
    api_key: SecretStr | None = Field(default=None, description="without one the server asks for none")
    models: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_split)] = Field(
        default=None, description="embedders; None: those that need no network"
    )
    rerankers: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_split)] = Field(
        default=None, description="None: all that the models allow; also cross_encoder:<folder or org/model>"
    )
    threads: int = Field(default_factory=usable_cores, ge=1, description="of models and jobs")
    workers: int = Field(default=1, ge=1, le=256, description="HTTP processes of `vss serve`: a writer and readers")
    max_body_bytes: int = Field(default=32 << 20, ge=1024)
    max_in_flight: int = Field(default=1024, ge=1, description="requests at once in each process; more get 429")
    max_unindexed: int = Field(
        default=MAX_UNINDEXED,
        ge=1,
        description="points that wait for an index; past it only deletes are taken, else 429",
    )
    drain_seconds: float = Field(default=1.0, ge=0, le=8, description="from SIGTERM until new connections are refused")
    keep_generations: int = Field(
        default=KEEP, ge=1, description="that can be promoted, the current one included; the worker collects the others"
    )
    min_recall: float = Field(
        default=MIN_RECALL,
        ge=0,
        le=1,
        description="recall@10 that a build of the worker has to reach",
    )
    build_share: float = Field(
        default=BUILD_SHARE,
        ge=0.01,
        le=1,
        description="part of the time that such a build works; else it pauses",
    )
    access_log: bool = Field(default=False, description="log every request, not only those that fail with 5xx")


def read_settings(**given: object) -> Settings:
    """What is given, else the environment, else the defaults. VssError (INVALID) names the first bad one."""
    known = {f"VSS_{name.upper()}" for name in Settings.model_fields} | ELSEWHERE
    for name in sorted(os.environ):
        if name.startswith("VSS_") and name not in known:
            log.warning("the environment variable %s means nothing to this server", name)
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise invalid(
            f"got {first['input']!r}: {first['msg']}",
            field=f"VSS_{name.upper()}",
            hint="an option of the command line or an environment variable",
        ) from error
