"""A second process that reads what the machine's writer has acknowledged: a folder a line in, all that it sees out.

    python -m tests.machines.reading_process
    {"folder": "/tmp/x"}  ->  {"generation": 3, "points": [[7, [1.0, 2.0, 3.0], {"a": 1}, 12], ...]}

A folder stays open until another one is asked for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from indexers.registry import INDEXERS
from vss.engines.local import LocalEngine
from vss.storage.datadir import DataDir


class ReadingProcess:
    """The process, from outside."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.machines.reading_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._asked = 0

    def ask(self, folder: Path) -> None:
        """Let it read all that is there now, while the caller does something else; `answer` says what it has seen."""
        assert self._process.stdin is not None
        while self._asked:  # by somebody who has failed before the answer
            self._line()
        self._process.stdin.write(json.dumps({"folder": str(folder)}) + "\n")
        self._process.stdin.flush()
        self._asked += 1

    def answer(self) -> dict[str, Any]:
        """What it has seen since it was asked."""
        answer: dict[str, Any] = json.loads(self._line())
        assert "error" not in answer, answer["error"]
        return answer

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the reading process ended with {self._process.wait(10)}"
        self._asked -= 1
        return line

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=30)


def main() -> None:
    """Answer until there are no more lines; what goes wrong is an answer too."""
    folder, engine = "", None
    for line in sys.stdin:
        wanted = json.loads(line)["folder"]
        try:
            if engine is None or wanted != folder:
                if engine is not None:
                    engine.close()
                folder, engine = wanted, LocalEngine(DataDir(Path(wanted)), INDEXERS, writable=False)
            answer = seen(engine)
        except Exception:
            answer = {"error": traceback.format_exc()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def seen(engine: LocalEngine) -> dict[str, Any]:
    """All points, with their versions."""
    view = engine.collection("c").view()
    page, _ = view.scroll(None, None, 10_000)
    points = []
    for part, row in page:
        point = part.point(row)
        vector = point.vectors.get("")
        shown = None if vector is None else vector.tolist()
        points.append([point.id, shown, json.loads(point.payload), point.version])
    return {"generation": view.generation, "points": points}


if __name__ == "__main__":
    main()
