"""Opens the file system of a URI (fsspec's), and says in one sentence what is wrong when it does not answer.

A local path needs nothing; `s3://` needs the extra `s3`. Endpoint and credentials come from the environment that each
of them documents (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, ...). No message shows a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from vss.errors import Code, VssError, invalid

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}

S3_CONFIG = {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 2, "mode": "standard"}}
"""Seconds and tries: an endpoint that nobody answers at is told within half a minute."""

_USER = re.compile(r"://([^/@]*@)")

REMOTE_ERRORS = frozenset({"aiobotocore", "aiohttp", "adlfs", "azure", "botocore", "gcsfs", "google"})
"""Packages whose exceptions are no OSError."""

SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN")


def shown(uri: str) -> str:
    """The URI for people: without a user, a password and, over HTTP, the query, which may be a signature."""
    if "://" not in uri:
        return uri
    uri = _USER.sub("://", uri, count=1)
    if uri.startswith(("http://", "https://")):
        uri = urlunsplit(urlsplit(uri)._replace(query="", fragment=""))
    return uri


def same_place(uri: str) -> str:
    """One spelling of all that name the same place: local paths absolute, links resolved; as `shown` the others."""
    if "://" in uri and not uri.startswith(("file://", "local://")):
        return shown(uri)
    return os.path.realpath(str(LocalFileSystem._strip_protocol(uri)))


@contextmanager
def file_system(uri: str) -> Iterator[tuple[Any, str]]:
    """The file system and the path in it; closed at the end.

    VssError: INVALID for an unknown protocol or one whose extra is not installed, STORAGE when it cannot be opened.
    """
    protocol = uri.partition("://")[0] if "://" in uri else "file"
    options: dict[str, Any] = {"config_kwargs": S3_CONFIG} if EXTRAS.get(protocol) == "s3" else {}
    if protocol not in ("file", "local", "memory"):
        # An instance of fsspec's cache may have another endpoint or other credentials.
        options |= {"skip_instance_cache": True}
    try:
        with answering(uri):
            files, path = fsspec.core.url_to_fs(uri, **options)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        hint = f"pip install 'vss-service[{extra}]'" if extra else f"install what fsspec wants: {error}"
        raise invalid(
            f"got {shown(uri)}, but what opens {protocol}:// is not installed", field="uri", hint=hint
        ) from error
    except ValueError as error:
        known = ", ".join(["a path", "s3://", "gs://", "abfs://", "https://"])
        raise invalid(f"got {shown(uri)}, wanted {known}: {_clean(error, uri)}", field="uri") from error
    try:
        yield files, path
    finally:
        # s3fs closes its connections when it is collected, which is too late for a loop that has ended.
        session = getattr(files, "_s3", None)
        if session is not None:
            files.close_session(files.loop, session)


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """VssError for what file systems raise: NOT_FOUND, else STORAGE with what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise missing(uri, error) from error
    except PermissionError as error:
        raise VssError(
            Code.STORAGE,
            f"access to {shown(uri)} was denied: {_clean(error, uri)}",
            field="uri",
            hint="check the credentials and what they may do",
        ) from error
    except Exception as error:
        name = type(error).__name__
        if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in REMOTE_ERRORS:
            raise
        hint = None
        said = _clean(error, uri)
        if "Credentials" in name:
            said, hint = "there are no credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        elif name in ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ClientConnectorError"):
            place = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "the endpoint"
            said, hint = f"{shown(place)} does not answer", "check AWS_ENDPOINT_URL and the network"
        raise VssError(Code.STORAGE, f"cannot use {shown(uri)}: {said}", field="uri", hint=hint) from error


def missing(uri: str, error: Exception | None = None) -> VssError:
    """The error for a file, or a whole bucket, that is not there."""
    if error is not None and "bucket" in str(error):
        return VssError(Code.NOT_FOUND, f"there is no bucket {urlsplit(shown(uri)).netloc!r}", field="uri")
    return VssError(Code.NOT_FOUND, f"there is no file {shown(uri)}", field="uri")


def _clean(error: Exception, uri: str) -> str:
    """What an exception says, on one line, without secrets."""
    said = " ".join(str(error).split()).replace(uri, shown(uri))
    if user := _USER.search(uri):
        said = said.replace(user[1], "")
    for name in SECRETS:
        if secret := os.environ.get(name):
            said = said.replace(secret, "***")
    return said or type(error).__name__
