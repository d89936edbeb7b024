"""The corpus of the demo: complete, unique, and read without executing anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from vss.jobs.stdlib_docs import TEXT_LIMIT, Document, documents


@pytest.fixture(scope="module")
def corpus() -> dict[str | int, Document]:
    points = list(documents())
    by_id = {point["id"]: point for point in points}
    assert len(by_id) == len(points), "an id stands twice"
    return by_id


def tree(root: Path, **files: str) -> Path:
    """A library with the given modules: `pkg__mod="..."` is written to pkg/mod.py."""
    for name, text in files.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text, encoding="utf-8")
    return root


def from_sources(root: Path) -> dict[str | int, Document]:
    return {point["id"]: point for point in documents(root) if point["module"] != "builtins"}


def test_thousands_of_points_of_every_kind(corpus: dict[str | int, Document]) -> None:
    # A minimal Debian Python leaves out tkinter, distutils and lib2to3; nothing else of size.
    assert 4_000 < len(corpus) < 10_000
    assert {point["kind"] for point in corpus.values()} == {
        "module",
        "class",
        "function",
        "method",
        "builtin",
    }


@pytest.mark.parametrize(
    ("name", "kind", "module", "package"),
    [
        ("shutil.make_archive", "function", "shutil", "shutil"),
        ("threading.Barrier.wait", "method", "threading", "threading"),
        ("json.decoder.JSONDecoder", "class", "json.decoder", "json"),
        ("email", "module", "email", "email"),
        ("builtins.sorted", "builtin", "builtins", "builtins"),
        ("builtins.str.split", "builtin", "builtins", "builtins"),
    ],
)
def test_well_known_names(corpus: dict[str | int, Document], name: str, kind: str, module: str, package: str) -> None:
    point = corpus[name]
    assert (point["kind"], point["module"], point["package"], point["name"]) == (kind, module, package, name)


def test_payload_of_one_function(corpus: dict[str | int, Document]) -> None:
    point = corpus["shutil.make_archive"]
    assert point["summary"] == "Create an archive file (eg. zip or tar)."
    assert isinstance(point["line"], int)
    assert point["line"] > 100
    assert point["text"] == "shutil.make_archive (function): Create an archive file (eg. zip or tar)."
    assert isinstance(point["length"], int)
    assert point["length"] > 500, "the whole docstring is measured"


def test_text_goes_past_a_signature_or_heading(corpus: dict[str | int, Document], tmp_path: Path) -> None:
    assert "Return an object that produces a sequence of integers" in str(corpus["builtins.range"]["text"])
    old = 'def load():\n    """**DEPRECATED**\n\n    Load a module.\n\n    More."""\n'
    point = from_sources(tree(tmp_path, old=old))["old.load"]
    assert point["text"] == "old.load (function): **DEPRECATED**\n\nLoad a module."


def test_every_point_can_be_embedded_and_shown(corpus: dict[str | int, Document]) -> None:
    for name, point in corpus.items():
        assert str(point["summary"]).strip(), name
        assert "\n" not in str(point["summary"]), name
        assert len(str(point["text"])) <= TEXT_LIMIT, name
        assert isinstance(point["length"], int), name
        assert point["length"] > 0, name
        assert (point["line"] == 0) == (point["kind"] == "builtin"), name


def test_tests_tools_and_private_names_are_left_out(corpus: dict[str | int, Document]) -> None:
    assert {str(point["package"]) for point in corpus.values()}.isdisjoint({"test", "idlelib", "lib2to3", "turtledemo"})
    private = [name for name in corpus if any(part.startswith("_") for part in str(name).split("."))]
    assert private == []


def test_order_is_the_same_each_time() -> None:
    assert [point["id"] for point in documents()] == [point["id"] for point in documents()]


def test_nothing_is_executed(tmp_path: Path) -> None:
    witness = tmp_path / "executed"
    source = (
        '"""A bomb."""\n'
        f"open({str(witness)!r}, 'w').close()\n"
        "raise SystemExit('executed')\n"
        "def fuse(seconds):\n"
        '    """Wait, then go off."""\n'
    )
    points = from_sources(tree(tmp_path / "library", bomb=source))
    assert list(points) == ["bomb", "bomb.fuse"]
    assert not witness.exists()


def test_a_broken_file_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(tmp_path, good='"""Good."""', syntax='"""Bad."""\ndef f(:', null='"""Bad."""\0')
    (root / "latin.py").write_bytes(b'"""\xff\xfe"""')
    assert list(from_sources(root)) == ["good"]
    for name in ("syntax.py", "null.py", "latin.py"):
        assert name in caplog.text


def test_definitions_behind_conditions_are_found_and_the_first_wins(tmp_path: Path) -> None:
    source = (
        "try:\n    import fast\nexcept ImportError:\n"
        '    def twice(x):\n        """The slow one."""\n'
        "if True:\n"
        '    class Box:\n        """A box."""\n'
        '        def open(self):\n            """Open it."""\n'
        "else:\n"
        '    class Box:\n        """Another box."""\n'
        "def outer():\n"
        '    def inner():\n        """Never visible."""\n'
        "def _hidden():\n"
        '    """Private."""\n'
        "class _Private:\n"
        '    def method(self):\n        """Private with its class."""\n'
    )
    points = from_sources(tree(tmp_path, mod=source))
    assert {name: point["summary"] for name, point in points.items()} == {
        "mod.twice": "The slow one.",
        "mod.Box": "A box.",
        "mod.Box.open": "Open it.",
    }
    assert points["mod.Box.open"]["line"] == 9


def test_old_escapes_do_not_warn(tmp_path: Path) -> None:
    points = from_sources(tree(tmp_path, old='"""Old."""\nPATTERN = "\\d"\n'))
    assert list(points) == ["old"]
