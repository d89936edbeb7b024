"""The documents are true: each example in docs/http-api.md answers what stands below it, and what is named exists.

VSS_WRITE_DOCS=1 pytest tests/test_docs.py      writes the answers anew
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.api.server_process import ServerProcess

ROOT = Path(__file__).resolve().parent.parent
API = ROOT / "docs" / "http-api.md"
EXAMPLE = re.compile(r"```sh\n(.*?)```\n(?:\n```json\n(.*?)```\n)?", re.DOTALL)
CHANGING = {"time", "timings_ms", "created"}


def steady(value: object) -> object:
    """An answer without what differs from run to run."""
    match value:
        case dict():
            return {name: steady(below) for name, below in value.items() if name not in CHANGING}
        case list():
            return [steady(below) for below in value]
        case float():
            return round(value, 4)
    return value


def test_the_examples_answer_what_they_say(tmp_path: Path) -> None:
    text = API.read_text()
    server = ServerProcess(tmp_path / "data")
    written, last = [], 0
    try:
        for example in EXAMPLE.finditer(text):
            command = example[1].replace("http://127.0.0.1:6333", server.url)
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60)
            answer = steady(json.loads(done.stdout))
            if not os.environ.get("VSS_WRITE_DOCS"):
                assert example[2] is not None, f"no answer stands below {example[1]}"
                assert answer == json.loads(example[2]), example[1]
            written.append(text[last : example.start()])
            shown = json.dumps(answer, ensure_ascii=False)
            written.append(f"```sh\n{example[1]}```\n\n```json\n{shown}\n```\n")
            last = example.end()
    finally:
        server.stop()
    assert last > 0
    if os.environ.get("VSS_WRITE_DOCS"):
        API.write_text("".join(written) + text[last:])


def test_the_readme_names_every_command_and_target() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    for target in targets:
        assert f"make {target}" in readme, f"`make {target}` is not in the README"


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/http-api.md", "docs/decisions.md"])
def test_the_paths_that_documents_name_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for path in re.findall(r"`((?:api|vss|indexers|embedders|tests|benchmarks|docs)/[\w/.-]*\w)`", text):
        assert (ROOT / path).exists(), f"{document} names {path}"
