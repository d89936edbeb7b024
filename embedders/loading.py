"""A folder or hub name becomes a loaded model: safetensors only, no code of the author's, no noise."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from sentence_transformers import CrossEncoder, SentenceTransformer

from embedders.fingerprint import refuse_unsafe
from vss.errors import Code, VssError

_WANTED_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "*.jinja"]
"""What is fetched of a hub model: no pickles, and no second copy of the weights for another runtime."""

_LIBRARIES = ("sentence_transformers", "transformers", "huggingface_hub", "httpx")


def fetch(name: str) -> Path:
    """The folder of hub model `org/name`, downloaded or from the hub's own cache. VssError (UNAVAILABLE)."""
    try:
        with _quiet():
            return Path(huggingface_hub.snapshot_download(name, allow_patterns=_WANTED_FILES))
    except Exception as error:  # the hub's client raises a family of its own, of httpx and of OSError
        raise VssError(
            Code.UNAVAILABLE,
            f"cannot fetch the model {name!r}: {error}",
            hint="name a folder, or all-MiniLM-L6-v2, which comes with the extra; HF_HOME sets the hub's cache",
        ) from error


def load(folder: Path, device: str, precision: str) -> Any:
    """The model of a folder on `device`, its transformer in `precision` and its other modules in float32.

    Raises VssError (INVALID) for a folder that would run code, (MODEL_FAILED) for one that does not load.
    """
    model = _load(SentenceTransformer, folder, device, precision)
    model.eval()
    for module in list(model)[1:]:  # pooling and normalising in bfloat16 give lengths of 1.0008
        module.float()
    return model


def load_cross_encoder(folder: Path, device: str, precision: str) -> Any:
    """The CrossEncoder of a folder, on `device` in `precision`. VssError as for `load`."""
    model = _load(CrossEncoder, folder, device, precision)
    model.eval()
    return model


def _load(kind: Any, folder: Path, device: str, precision: str) -> Any:
    refuse_unsafe(folder)
    try:
        with _quiet():
            return kind(
                str(folder),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": getattr(torch, precision), "use_safetensors": True},
            )
    except Exception as error:  # whatever a malformed model folder makes three libraries raise
        raise VssError(
            Code.MODEL_FAILED,
            f"cannot load the model in {folder} on {device} in {precision}: {error}",
            hint="it must be a folder that sentence-transformers loads without remote code",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, warnings or log lines below ERROR from the libraries while a model loads."""
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    levels = [logger.level for logger in loggers]
    bars = transformers.utils.logging.is_progress_bar_enabled()
    hub_bars = not are_progress_bars_disabled()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if hub_bars:
        disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        if hub_bars:
            enable_progress_bars()


def set_threads(threads: int) -> None:
    """Cap what torch and the tokenizers use in this process; the tokenizers' part counts before their first use."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if threads > 1 else "false")
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    torch.set_num_threads(threads)
