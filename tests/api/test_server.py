"""Starting a server beside a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from api import server
from api.settings import Settings
from vss.storage.datadir import DataDir, WriterLock


def test_a_server_that_starts_waits_for_a_job_that_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = WriterLock(DataDir(tmp_path / "data"))
    take, tried = WriterLock._take, []

    def take_and_see(lock: WriterLock) -> bool:
        tried.append(take(lock))
        held.close()  # the job's commit ends after the server has asked once in vain
        return tried[-1]

    served: list[object] = []
    monkeypatch.setattr(WriterLock, "_take", take_and_see)
    monkeypatch.setattr(server, "_run", lambda app, sockets, seconds: served.extend(one.close() for one in sockets))
    server.serve(Settings(data=tmp_path / "data", port=0, models=()))
    assert tried[0] is False
    assert tried[-1] is True
    assert served
