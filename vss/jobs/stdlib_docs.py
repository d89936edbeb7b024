"""Real text that every machine has: the documentation of Python's own standard library.

Sources are parsed with `ast`; no module is imported or executed. The builtins have no source, so their
docstrings are read from the running interpreter, by name. One document is one documented public name:

    {"id": "shutil.make_archive",
     "text": "shutil.make_archive (function): Create an archive file (eg. zip or tar).",
     "module": "shutil", "package": "shutil", "kind": "function", "name": "shutil.make_archive",
     "summary": "Create an archive file (eg. zip or tar).", "length": 740, "line": 1083}

The text is the name and what the docstring opens with. The paragraphs that follow speak of arguments and special
cases, and blur what the vector says.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import logging
import re
import sysconfig
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

Document = dict[str, str | int]
"""One point: `id`, `text` to embed, and the payload `module package kind name summary length line`."""

TEXT_LIMIT = 1500
"""Characters of `text`: more than a small embedding model reads (256 tokens)."""

_TITLE_LENGTH = 24
"""A first paragraph shorter than this is a heading ("**DEPRECATED**"), and the next one says what the thing is."""

_SIGNATURE = re.compile(r"[\w.]+\(")

_SKIPPED = frozenset({"dist-packages", "idlelib", "lib2to3", "site-packages", "test", "tests", "turtledemo"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Documented = _Function | ast.ClassDef

_log = logging.getLogger(__name__)


def documents(stdlib: Path | None = None) -> Iterator[Document]:
    """Every documented public module, class, function and method, and the builtins, in a fixed order.

    stdlib: folder of the library's sources; None is the running Python's. A file that cannot be read or
    parsed is logged and left out. Ids are unique: of two definitions of one name the first is kept.
    """
    root = Path(sysconfig.get_path("stdlib")) if stdlib is None else stdlib
    seen: set[str] = set()
    for source in (_library(root), _builtins()):
        for document in source:
            name = str(document["id"])
            if name not in seen:
                seen.add(name)
                yield document


def _library(root: Path) -> Iterator[Document]:
    for path in _sources(root):
        try:
            tree = _parse(path)
        except (OSError, SyntaxError, ValueError, RecursionError) as error:
            _log.warning("left out %s: %s", path, error)
            continue
        parts = path.relative_to(root).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if doc := ast.get_docstring(tree):
            yield _document(module, module, "module", doc, line=1)
        yield from _definitions(tree.body, module, module, inside_class=False)


def _sources(folder: Path) -> Iterator[Path]:
    """Python files of public modules below a folder, in a fixed order."""
    for path in sorted(folder.iterdir()):
        if path.name == "__init__.py":
            yield path
        elif path.name.startswith("_") or path.name in _SKIPPED or not path.stem.isidentifier():
            continue
        elif path.suffix == ".py":
            yield path
        elif path.is_dir() and (path / "__init__.py").is_file():
            yield from _sources(path)


def _parse(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        # Old sources hold escapes that newer parsers warn about; they are not ours to mend.
        warnings.simplefilter("ignore")
        return ast.parse(path.read_bytes(), filename=str(path))


def _definitions(body: list[ast.stmt], owner: str, module: str, *, inside_class: bool) -> Iterator[Document]:
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            # A definition that depends on the platform or on an optional import is public all the same.
            handlers = [s for h in node.handlers for s in h.body] if isinstance(node, ast.Try) else []
            nested = [*node.body, *handlers, *node.orelse]
            yield from _definitions(nested, owner, module, inside_class=inside_class)
        elif isinstance(node, _Documented) and not node.name.startswith("_"):
            name = f"{owner}.{node.name}"
            if doc := ast.get_docstring(node):
                kind = _kind(node, inside_class=inside_class)
                yield _document(name, module, kind, doc, line=node.lineno)
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, name, module, inside_class=True)


def _kind(node: _Documented, *, inside_class: bool) -> str:
    if isinstance(node, ast.ClassDef):
        return "class"
    return "method" if inside_class else "function"


def _builtins() -> Iterator[Document]:
    for name, value in sorted(vars(builtins).items()):
        # `site` adds prompts such as `exit`, and aliases such as IOError repeat another name's text.
        if not isinstance(value, type | types.BuiltinFunctionType) or value.__name__ != name:
            continue
        if name.startswith("_"):
            continue
        qualified = f"builtins.{name}"
        if value.__doc__:
            yield _document(qualified, "builtins", "builtin", value.__doc__, line=0)
        if isinstance(value, type):
            for attribute, member in sorted(vars(value).items()):
                doc = getattr(member, "__doc__", None)
                if doc and not attribute.startswith("_"):
                    yield _document(f"{qualified}.{attribute}", "builtins", "builtin", doc, line=0)


def _document(name: str, module: str, kind: str, doc: str, *, line: int) -> Document:
    """line: where the definition starts, from 1; 0 where there is no source."""
    doc = inspect.cleandoc(doc).strip()
    return {
        "id": name,
        "text": f"{name} ({kind}): {_opening(doc)}"[:TEXT_LIMIT],
        "module": module,
        "package": module.partition(".")[0],
        "kind": kind,
        "name": name,
        "summary": doc.partition("\n")[0],
        "length": len(doc),
        "line": line,
    }


def _opening(doc: str) -> str:
    """The first paragraph, with the second when the first is a heading or a signature."""
    first, *rest = doc.split("\n\n", 2)
    says_it = len(first) >= _TITLE_LENGTH and not _SIGNATURE.match(first)
    return first if says_it or not rest else f"{first}\n\n{rest[0]}"
