"""A process that opens a new collection while another one makes its log does not take it for a damaged one.

The soak of the collection machine found it: "log.db is damaged: it is missing", when two processes were the first.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from vss.storage.log import Kind, Log, Operation
from vss.storage.proof import Witness


def test_a_log_that_is_made_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one makes it, and writes, just before this one looks at the witness."""
    looked = Witness.exists

    def made_meanwhile(self: Witness) -> bool:
        monkeypatch.undo()
        other = Log(tmp_path / "log.db")
        other.append([Operation(Kind.DELETE, b"\x01a")])
        other.close()
        return looked(self)

    monkeypatch.setattr(Witness, "exists", made_meanwhile)
    log = Log(tmp_path / "log.db")
    assert [one.key for one in log.read(0, 0)[1]] == [b"\x01a"]
    log.close()
