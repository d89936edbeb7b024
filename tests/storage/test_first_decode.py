"""Threads that read a manifest for the first time at once do not end the process (msgspec 0.22 would)."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
sys.setswitchinterval(1e-6)
from pathlib import Path
from vss.storage import manifest
import msgspec
data = b'{"format": 1, "collection": "c", "segments": [{"id": "x", "rows": 1}]}'
Path("000001.json").write_bytes(data)
sha256 = __import__("hashlib").sha256(data).hexdigest()
together = threading.Barrier(4)
def read():
    together.wait()
    try:
        manifest.read_manifest(Path("."), 1, sha256)
    except msgspec.ValidationError:
        pass
threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_the_first_manifests_of_four_threads(tmp_path: object) -> None:
    for _ in range(6):
        subprocess.run([sys.executable, "-c", PROGRAM], cwd=str(tmp_path), check=True, timeout=60)
