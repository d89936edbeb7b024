"""The shape of the house, kept by reading its sources.

Each rule takes a `House` and answers with what breaks it, one line each: file, line and what to do. Every rule
is shown to fail on a small house that breaks it.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MAY_IMPORT = {
    "vss": {"vss"},
    "embedders": {"embedders", "vss"},
    "indexers": {"indexers", "vss"},
    "api": {"api", "embedders", "indexers", "vss"},
}
OURS = {*MAY_IMPORT, "benchmarks", "tests"}

HOME_OF = {
    "faiss": "indexers",
    "hnswlib": "indexers",
    "sentence_transformers": "embedders",
    "torch": "embedders",
    "transformers": "embedders",
}
"""Heavy libraries, and the one package that may import each."""

UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "extractall", "torch.load"}
UNSAFE_FLAGS = {"allow_pickle", "trust_remote_code"}
NAMES_THAT_SAY_NOTHING = {"common", "helper", "helpers", "misc", "util", "utils"}
MOST_LINES = 400

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One parsed file. `module` is its dotted name; that of `vss/__init__.py` is `vss`."""

    path: Path
    shown: str
    module: str
    lines: int
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    @property
    def is_init(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def is_registry(self) -> bool:
        return self.path.name == "registry.py"

    def at(self, node: ast.AST, problem: str) -> str:
        return f"{self.shown}:{getattr(node, 'lineno', 1)}: {problem}"

    def imports(self) -> Iterator[tuple[ast.stmt, list[str]]]:
        """Every import statement, wherever it stands, with the absolute names it may load."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield node, [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parts = self.module.split(".")
                    parts = parts[: len(parts) - node.level + self.is_init]
                    base = ".".join([*parts, *([base] if base else [])])
                yield node, [base, *(f"{base}.{alias.name}" for alias in node.names)]


@dataclass(frozen=True)
class House:
    """All sources of the four packages below `root`."""

    root: Path

    @cached_property
    def sources(self) -> list[Source]:
        found = []
        for path in sorted(path for package in MAY_IMPORT for path in (self.root / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            parts = path.relative_to(self.root).with_suffix("").parts
            found.append(
                Source(
                    path=path,
                    shown=path.relative_to(self.root).as_posix(),
                    module=".".join(parts[:-1] if parts[-1] == "__init__" else parts),
                    lines=len(text.splitlines()),
                    tree=ast.parse(text, filename=str(path)),
                )
            )
        return found


Rule = Callable[[House], list[str]]


def imports_point_down(house: House) -> list[str]:
    """`vss` imports none of the others; `embedders` and `indexers` only `vss`; `api` all three."""
    problems = []
    for source in house.sources:
        for node, names in source.imports():
            package = names[0].partition(".")[0]
            if package in OURS - MAY_IMPORT[source.package]:
                problems.append(source.at(node, f"{source.package} must not import {package}"))
    return problems


def no_import_circles(house: House) -> list[str]:
    """No file reaches itself through imports, those for type checking and those of registries included."""
    modules = {source.module for source in house.sources}
    graph = {
        source.module: {name for _, names in source.imports() for name in names if name in modules}
        for source in house.sources
    }
    # `from vss import types` names the package as well as the file; a package's own file imports nothing.
    for module, targets in graph.items():
        targets -= {source.module for source in house.sources if source.is_init and source.module != module}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [f"import circle: {' <- '.join(error.args[1])}"]
    return []


def package_files_hold_a_docstring_only(house: House) -> list[str]:
    """Every folder with sources has an `__init__.py`, and that says what the package is and does nothing."""
    problems = [
        f"{folder.relative_to(house.root).as_posix()}: has no __init__.py"
        for folder in sorted({source.path.parent for source in house.sources})
        if not (folder / "__init__.py").is_file()
    ]
    for source in house.sources:
        if source.is_init and (len(source.tree.body) != 1 or not ast.get_docstring(source.tree)):
            problems.append(source.at(source.tree, "must hold a docstring and nothing else"))
    return problems


def imports_stand_at_the_top(house: House) -> list[str]:
    """Only a registry imports when called: it loads a backend when a setting names it."""
    problems = []
    for source in house.sources:
        if source.is_registry:
            continue
        for scope in ast.walk(source.tree):
            if isinstance(scope, _Function | ast.ClassDef):
                problems += [
                    source.at(node, f"import inside {scope.name}; only a registry.py may")
                    for statement in scope.body
                    for node in ast.walk(statement)
                    if isinstance(node, ast.Import | ast.ImportFrom)
                ]
            elif isinstance(scope, ast.Call) and _called(scope) in {"__import__", "importlib.import_module"}:
                problems.append(source.at(scope, "imports by name; only a registry.py may"))
    return sorted(set(problems))


def heavy_libraries_stay_at_home(house: House) -> list[str]:
    """torch and its like are imported only by embedders, faiss and hnswlib only by indexers."""
    problems = []
    for source in house.sources:
        for node, names in source.imports():
            for library in {name.partition(".")[0] for name in names}:
                if HOME_OF.get(library, source.package) != source.package:
                    problems.append(source.at(node, f"{library} belongs to {HOME_OF[library]}"))
    return problems


def nothing_runs_what_it_reads(house: House) -> list[str]:
    """No format or call that executes code found in data: pickle, torch.load, extractall, eval and their kin."""
    problems = []
    for source in house.sources:
        for imported, names in source.imports():
            for name in names:
                if name.partition(".")[0] in UNSAFE_MODULES or name in UNSAFE_CALLS:
                    problems.append(source.at(imported, f"{name} can run what it reads"))
                    break
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call):
                called = _called(node)
                if called in UNSAFE_CALLS or called.endswith(".extractall"):
                    problems.append(source.at(node, f"{called} can run or write what data says"))
            elif isinstance(node, ast.keyword) and node.arg in UNSAFE_FLAGS and not _is_false(node.value):
                problems.append(source.at(node.value, f"{node.arg} must be False"))
            elif isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value in UNSAFE_FLAGS and not _is_false(value):
                        problems.append(source.at(value, f"{key.value!r} must be False"))
    return problems


def names_say_something(house: House) -> list[str]:
    """A file or folder is named for what it holds."""
    return [
        source.at(source.tree, "say what it holds: no utils, helpers, common, misc")
        for source in house.sources
        if NAMES_THAT_SAY_NOTHING.intersection(source.module.split("."))
    ]


def files_are_short(house: House) -> list[str]:
    """A longer file is asking to be two."""
    return [
        source.at(source.tree, f"{source.lines} lines, {MOST_LINES} at most")
        for source in house.sources
        if source.lines > MOST_LINES
    ]


def public_names_are_documented(house: House) -> list[str]:
    """Modules, classes, functions and methods that a reader may use say what they are."""
    problems = []
    for source in house.sources:
        if any(part.startswith("_") for part in source.module.split(".")):
            continue
        if not ast.get_docstring(source.tree):
            problems.append(source.at(source.tree, "the module has no docstring"))
        problems += [
            source.at(node, f"{name} has no docstring")
            for name, node in _public(source.tree.body)
            if not ast.get_docstring(node)
        ]
    return problems


def _public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, _Function | ast.ClassDef]]:
    for node in body:
        if isinstance(node, _Function | ast.ClassDef) and not node.name.startswith("_"):
            if {"overload", "setter", "deleter"}.isdisjoint(_decorators(node)):
                yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{prefix}{node.name}.")


def _decorators(node: _Function | ast.ClassDef) -> set[str]:
    return {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}


def _called(call: ast.Call) -> str:
    """What a call names: `open`, `torch.load`, `tarfile.open(path).extractall`; "" when that is no name."""
    if isinstance(call.func, ast.Name):
        return call.func.id
    return ast.unparse(call.func) if isinstance(call.func, ast.Attribute) else ""


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


RULES: tuple[Rule, ...] = (
    imports_point_down,
    no_import_circles,
    package_files_hold_a_docstring_only,
    imports_stand_at_the_top,
    heavy_libraries_stay_at_home,
    nothing_runs_what_it_reads,
    names_say_something,
    files_are_short,
    public_names_are_documented,
)


def heavy_after_import(root: Path) -> dict[str, list[str]]:
    """What each module of `vss` and `api`, and each registry, has loaded of the heavy libraries when imported.

    All are imported, in order, by one fresh interpreter; the answer names the first module that loads each.
    """
    modules = [
        source.module
        for source in House(root).sources
        if (source.package in {"vss", "api"} or source.is_registry) and source.path.stem != "__main__"
    ]
    program = textwrap.dedent("""
        import importlib, sys
        heavy = set(sys.argv[1].split(","))
        for name in sys.argv[2:]:
            importlib.import_module(name)
            for library in sorted(heavy.intersection(sys.modules)):
                print(name, library)
                heavy.discard(library)
    """)
    command = [sys.executable, "-c", program, ",".join(sorted(HOME_OF)), *modules]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        module, library = line.split()
        found.setdefault(module, []).append(library)
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Rule) -> None:
    house = House(ROOT)
    assert {source.package for source in house.sources} >= {"vss"}, "no sources were found"
    problems = rule(house)
    assert not problems, "\n".join([str(rule.__doc__), *problems])


def test_serving_modules_load_no_heavy_library() -> None:
    assert heavy_after_import(ROOT) == {}


# Below: each rule fails where it should. A small house keeps all rules; each case changes one file of it.

SMALL_HOUSE = {
    "vss/__init__.py": '"""Nouns."""\n',
    "vss/types.py": '"""Types."""\n\nimport numpy\n\n\nclass Hits:\n    """Hits."""\n\n    def best(self):\n'
    '        """The best."""\n',
    "vss/search/__init__.py": '"""Searching."""\n',
    "vss/search/plan.py": '"""Plans."""\n\nfrom vss.types import Hits\nfrom vss import types\n',
    "indexers/__init__.py": '"""Indexes."""\n',
    "indexers/registry.py": '"""Which index."""\n\n\ndef load(kind):\n    """Load it."""\n'
    "    from indexers import faiss_hnsw\n    return faiss_hnsw\n",
    "indexers/faiss_hnsw.py": '"""HNSW."""\n\nimport faiss\n\nfrom vss.types import Hits\n',
    "embedders/__init__.py": '"""Models."""\n',
    "embedders/sentence.py": '"""A model."""\n\nimport torch\n\nfrom vss import types\n\n\ndef ready(model):\n'
    '    """Evaluate it."""\n    return model.eval(trust_remote_code=False)\n',
    "api/__init__.py": '"""Faces."""\n',
    "api/app.py": '"""The app."""\n\nfrom indexers.registry import load\nfrom vss.search import plan\n',
}

VIOLATIONS: list[tuple[Rule, str, str, str]] = [
    (imports_point_down, "vss/bad.py", "import indexers.registry", "vss must not import indexers"),
    (imports_point_down, "vss/search/bad.py", "from api import app", "vss must not import api"),
    (imports_point_down, "vss/bad.py", "if TYPE_CHECKING:\n    import embedders", "vss must not import embedders"),
    (imports_point_down, "indexers/bad.py", "from embedders.sentence import ready", "not import embedders"),
    (imports_point_down, "embedders/bad.py", "import indexers", "embedders must not import indexers"),
    (imports_point_down, "embedders/bad.py", "import api.app", "embedders must not import api"),
    (imports_point_down, "api/bad.py", "import tests", "api must not import tests"),
    (imports_point_down, "vss/search/bad.py", "from ...api import app", "vss must not import api"),
    (no_import_circles, "vss/types.py", "from vss.search.plan import Plan", "vss.search.plan"),
    (no_import_circles, "vss/types.py", "if TYPE_CHECKING:\n    from vss.search import plan", "import circle"),
    (no_import_circles, "vss/types.py", "from .search import plan", "import circle"),
    (no_import_circles, "indexers/faiss_hnsw.py", "from indexers.registry import load", "import circle"),
    (no_import_circles, "vss/bad.py", "from . import bad", "import circle"),
    (package_files_hold_a_docstring_only, "vss/__init__.py", "from vss.types import Hits", "nothing else"),
    (package_files_hold_a_docstring_only, "vss/__init__.py", '"""Nouns."""\nVERSION = 1', "nothing else"),
    (package_files_hold_a_docstring_only, "vss/__init__.py", "", "docstring"),
    (package_files_hold_a_docstring_only, "vss/jobs/load.py", "", "vss/jobs: has no __init__.py"),
    (imports_stand_at_the_top, "vss/bad.py", "def f():\n    import json", "bad.py:2: import inside f"),
    (imports_stand_at_the_top, "vss/bad.py", "async def f():\n    if 1:\n        from a import b", "inside f"),
    (imports_stand_at_the_top, "vss/bad.py", "class A:\n    def f(self):\n        import json", "inside A"),
    (imports_stand_at_the_top, "vss/bad.py", "import importlib\nimportlib.import_module('a')", "by name"),
    (imports_stand_at_the_top, "vss/bad.py", "a = __import__('a')", "by name"),
    (heavy_libraries_stay_at_home, "vss/bad.py", "import torch.nn", "torch belongs to embedders"),
    (heavy_libraries_stay_at_home, "api/bad.py", "import numpy, faiss", "faiss belongs to indexers"),
    (heavy_libraries_stay_at_home, "embedders/bad.py", "from hnswlib import Index", "belongs to indexers"),
    (heavy_libraries_stay_at_home, "indexers/bad.py", "import transformers", "belongs to embedders"),
    (heavy_libraries_stay_at_home, "api/bad.py", "import sentence_transformers", "belongs to embedders"),
    (nothing_runs_what_it_reads, "vss/bad.py", "import pickle", "pickle"),
    (nothing_runs_what_it_reads, "vss/bad.py", "from shelve import open", "shelve"),
    (nothing_runs_what_it_reads, "vss/bad.py", "import json, marshal", "marshal"),
    (nothing_runs_what_it_reads, "embedders/bad.py", "import torch\ntorch.load('a')", "bad.py:2: torch.load"),
    (nothing_runs_what_it_reads, "embedders/bad.py", "from torch import load", "torch.load"),
    (nothing_runs_what_it_reads, "embedders/bad.py", "f(trust_remote_code=True)", "must be False"),
    (nothing_runs_what_it_reads, "embedders/bad.py", "f(**{'trust_remote_code': flag})", "must be False"),
    (nothing_runs_what_it_reads, "vss/bad.py", "numpy.load('a', allow_pickle=True)", "must be False"),
    (nothing_runs_what_it_reads, "vss/bad.py", "tarfile.open('a').extractall()", "extractall"),
    (nothing_runs_what_it_reads, "vss/bad.py", "eval('1')", "eval"),
    (nothing_runs_what_it_reads, "vss/bad.py", "exec('a = 1')", "exec"),
    (names_say_something, "vss/utils.py", "", "vss/utils.py:1"),
    (names_say_something, "vss/common/__init__.py", "", "vss/common"),
    (names_say_something, "api/helpers.py", "", "api/helpers.py:1"),
    (files_are_short, "vss/bad.py", "a = 1\n" * 401, "401 lines, 400 at most"),
    (public_names_are_documented, "vss/bad.py", "a = 1", "the module has no docstring"),
    (public_names_are_documented, "vss/bad.py", '"""M."""\ndef f(): ...', "bad.py:2: f has no docstring"),
    (public_names_are_documented, "vss/bad.py", '"""M."""\nclass A:\n    "A."\n    async def f(self): ...', "A.f"),
    (public_names_are_documented, "api/bad.py", '"""M."""\nclass A:\n    a = 1', "A has no docstring"),
]


@pytest.fixture
def small_house(tmp_path: Path) -> Path:
    """The small house, written below `tmp_path`."""
    for name, text in SMALL_HOUSE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_house_breaks_no_rule(small_house: Path, rule: Rule) -> None:
    assert rule(House(small_house)) == []


@pytest.mark.parametrize(
    ("rule", "name", "text", "said"), VIOLATIONS, ids=[f"{case[0].__name__}-{i}" for i, case in enumerate(VIOLATIONS)]
)
def test_a_violation_is_found(small_house: Path, rule: Rule, name: str, text: str, said: str) -> None:
    (small_house / name).parent.mkdir(parents=True, exist_ok=True)
    (small_house / name).write_text(text, encoding="utf-8")
    problems = rule(House(small_house))
    assert any(said in problem for problem in problems), problems


def test_every_rule_has_a_violation() -> None:
    assert {case[0] for case in VIOLATIONS} == set(RULES)


def test_what_is_private_needs_no_docstring(small_house: Path) -> None:
    text = '"""M."""\ndef _f(): ...\nclass _A:\n    def f(self): ...\nclass B:\n    "B."\n    def __len__(self): ...\n'
    (small_house / "vss/fine.py").write_text(text, encoding="utf-8")
    assert public_names_are_documented(House(small_house)) == []


def test_a_heavy_library_behind_an_import_is_found(small_house: Path) -> None:
    (small_house / "torch.py").touch()
    (small_house / "api/app.py").write_text("import embedders.sentence\n", encoding="utf-8")
    assert heavy_after_import(small_house) == {"api.app": ["torch"]}
