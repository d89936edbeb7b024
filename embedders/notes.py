"""What was found out at an earlier start, kept in a small JSON file; losing it costs time only."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


class Notes:
    """Values by key in one JSON file. `Notes(None)` forgets; an unreadable file counts as empty."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def get(self, key: str) -> Any:
        """The JSON value noted under `key`, or None."""
        return self._read().get(key)

    def put(self, key: str, value: Any) -> None:
        """Note a JSON value. Two processes that note at once may lose one note, never the file."""
        if self._path is None:
            return
        notes = self._read()
        notes[key] = value
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
            with os.fdopen(handle, "w") as file:
                json.dump(notes, file, indent=1)
            os.replace(name, self._path)
        except OSError:  # a read-only or full disk must not stop a model from serving
            return

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
