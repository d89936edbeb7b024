"""The line of JSON that a long run leaves."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def tell_of(proof: str, done: dict[str, Any], out: Path | None) -> None:
    """Print it, and append it to the file. proof: the module that was run, below `tests.proofs`."""
    command = " ".join([f"python -m tests.proofs.{proof}", *sys.argv[1:]])
    line = {"proof": proof, **done, "date": datetime.now(UTC).isoformat(timespec="seconds"), "command": command}
    sys.stdout.write(json.dumps(line) + "\n")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with open(out, "a") as file:
            file.write(json.dumps(line) + "\n")
