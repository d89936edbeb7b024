"""Texts to embed: the documentation of Python's standard library, or a file of the user's."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from vss.errors import Code, VssError, invalid
from vss.jobs.stdlib_docs import documents


def from_stdlib(count: int, seed: int) -> list[str]:
    """A sample, the same on every machine with the same Python."""
    return _sampled(sorted({str(one["text"]) for one in documents()}), count, seed, "the standard library")


def from_jsonl(path: Path, field: str, count: int, seed: int) -> list[str]:
    """A sample of the field of a JSON Lines file. VssError: NOT_FOUND, INVALID."""
    try:
        rows = msgspec.json.Decoder(dict[str, object]).decode_lines(path.read_bytes())
    except FileNotFoundError as error:
        raise VssError(Code.NOT_FOUND, f"there is no file {path}") from error
    except (msgspec.MsgspecError, OSError) as error:
        raise invalid(f"got {path}, which is not JSON Lines of objects: {error}") from error
    found = [value for value in (row.get(field) for row in rows) if isinstance(value, str) and value.strip()]
    return _sampled(found, count, seed, str(path))


def write_jsonl(path: Path, texts: list[str]) -> None:
    """The texts as rows of `id` and `text`."""
    path.write_bytes(msgspec.json.Encoder().encode_lines([{"id": row, "text": text} for row, text in enumerate(texts)]))


def _sampled(texts: list[str], count: int, seed: int, where: str) -> list[str]:
    if len(texts) < count:
        raise invalid(f"got {len(texts):,} texts in {where}, wanted {count:,}", field="texts", hint="ask for fewer")
    return random.Random(seed).sample(texts, count)
