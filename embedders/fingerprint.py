"""A model folder's identity: what changes when any vector that the model makes would.

Read from the files themselves, not from loaded objects, so that a new library version leaves it as it was.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from embedders.notes import Notes
from vss.errors import invalid

_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model")
_VOLATILE = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "__version__"}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_json(path: Path) -> Any:
    """A JSON file of a model folder; {} when there is none. VssError (INVALID) when it is not JSON."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise invalid(f"{path} is not JSON: {error}", hint="fetch the model again") from error


def sha256(path: Path, notes: Notes) -> str:
    """Hex digest of a file, noted by (inode, size, mtime): 90 MB take long enough to feel at each start."""
    stat = path.stat()
    receipt = [stat.st_ino, stat.st_size, stat.st_mtime_ns]
    key = f"sha256 {path.resolve()}"
    noted = notes.get(key)
    if isinstance(noted, dict) and noted.get("receipt") == receipt:
        return str(noted["sha256"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    notes.put(key, {"receipt": receipt, "sha256": digest})
    return digest


def module_folders(folder: Path) -> list[Path]:
    """The folders of a model's modules, in order; the model's own folder when it lists none."""
    modules = read_json(folder / "modules.json") or [{"path": ""}]
    return [folder / str(module.get("path", "")) for module in modules]


def refuse_unsafe(folder: Path) -> None:
    """VssError (INVALID) for a folder whose loading would run code of the model's author.

    That is: weights in a pickle format with no safetensors beside them, or modules that the library does not have.
    """
    for module in read_json(folder / "modules.json") or []:
        kind = str(module.get("type", ""))
        if not kind.startswith("sentence_transformers."):
            raise invalid(
                f"{folder} asks for the module {kind!r}, wanted only those of sentence_transformers",
                hint="a model that brings its own code is never run",
            )
        if not (folder / str(module.get("path", ""))).resolve().is_relative_to(folder.resolve()):
            raise invalid(f"{folder} names a module outside of itself: {module.get('path')!r}")
    for part in module_folders(folder):
        pickles = sorted(path for pattern in _PICKLES for path in part.glob(pattern))
        if pickles and not any(part.glob("*.safetensors")):
            raise invalid(
                f"{pickles[0]} is a pickle, wanted *.safetensors",
                hint="convert it: a pickle can run code when it is loaded",
            )
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*/*.safetensors")):
        raise invalid(f"{folder} has no *.safetensors", hint="name the folder that a model was saved in")


def contents(folder: Path, notes: Notes) -> str:
    """sha256 over what a folder's files say: weights, tokenizer, modules and their configurations, prompts."""
    settings = read_json(folder / "config_sentence_transformers.json")
    modules = read_json(folder / "modules.json") or []
    parts = [
        {
            "weights": {path.name: sha256(path, notes) for path in sorted(part.glob("*.safetensors"))},
            "tokenizer": {n: sha256(part / n, notes) for n in _TOKENIZER_FILES if (part / n).is_file()},
            "config": _stable(read_json(part / "config.json")),
        }
        for part in module_folders(folder)
    ]
    return _digest(
        {
            "modules": [str(module.get("type", "")).rpartition(".")[2] for module in modules],
            "parts": parts,
            "prompts": settings.get("prompts") or {},
            "default_prompt": settings.get("default_prompt_name"),
        }
    )


def fingerprint(content: str, *, max_tokens: int, dim: int, normalised: bool) -> str:
    """sha256 over a folder's `contents` and how they are used: truncation, dimension, normalisation.

    Not over the name, device or precision: those are guarded by the canaries.
    """
    return _digest({"format": 1, "content": content, "max_tokens": max_tokens, "dim": dim, "normalised": normalised})


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def check_pin(path: Path, wanted: str, notes: Notes) -> None:
    """VssError (INVALID) when a weights file is not the one that this name stands for."""
    try:
        got = sha256(path, notes)
    except OSError as error:
        raise invalid(f"cannot read the weights {path}: {error}") from error
    if got != wanted:
        raise invalid(
            f"{path} has sha256 {got}, wanted {wanted}",
            hint='reinstall it: pip install --force-reinstall "vss-service[models]", or name its folder instead',
        )


def _stable(config: Any) -> Any:
    return {k: v for k, v in config.items() if k not in _VOLATILE} if isinstance(config, dict) else config
