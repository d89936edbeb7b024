"""A disk as a power cut leaves it, made from what `recorder.c` recorded.

What was synced is there. Of what was not, each cut keeps something else (`Mode`): a write may be missing, torn at
sectors, or there before an older one; a name that was made, moved or removed may be so or not yet, each folder and each
name for itself, unless its folder was synced. After a sync that failed what was written before it may be missing for
ever, whatever later syncs say (A. Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).

Two things are taken for granted, as SQLite does: a torn write leaves bytes outside of it alone, and a rename is never
half done: a name that went from one folder to another is in the new one when it is no more in the old.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

_ENTRY = struct.Struct("=IIIIQQQ")

SECTORS = (512, 4096)


class Mode(Enum):
    """What becomes of what is not synced: nothing of it stays, all of it, each file's and folder's first part (the last
    write torn), or any of it (each write torn or whole)."""

    NOTHING = auto()
    EVERYTHING = auto()
    FIRST = auto()
    ANY = auto()


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened; kinds as in `recorder.c`: W, T, S, F, C, D, R, L, U, N (a whole file), M (a mark)."""

    kind: str
    path: str
    other: str
    inode: int
    offset: int
    data: bytes


def read_record(path: Path) -> Iterator[Entry]:
    """All entries of a record; one that a kill cut off is the end."""
    with open(path, "rb") as file:
        while len(head := file.read(_ENTRY.size)) == _ENTRY.size:
            kind, first, second, _, inode, offset, size = _ENTRY.unpack(head)
            rest = file.read(first + second + size)
            if len(rest) < first + second + size:
                return
            names = rest[: first + second].decode()
            yield Entry(chr(kind), names[:first], names[first:], inode, offset, rest[first + second :])


@dataclass(slots=True, eq=False)
class Step:
    """Something done to a file or a folder. doubted: a sync after it failed, so no later one makes sure of it."""

    durable: bool = False
    doubted: bool = False


@dataclass(slots=True, eq=False)
class Write(Step):
    """Bytes at an offset, or with data None a truncation to it."""

    offset: int = 0
    data: bytes | None = None

    def on(self, content: bytearray, data: bytes | None, offset: int) -> None:
        """Carry it out, or a part of it."""
        if data is None:
            del content[offset:]
        content.extend(bytes(max(0, offset - len(content))))
        if data:
            content[offset : offset + len(data)] = data


@dataclass(slots=True, eq=False)
class Naming(Step):
    """Names of a folder that appear (with their nodes) or go (None), at once. needs: done before it, elsewhere."""

    names: dict[str, Node | None] = field(default_factory=dict)
    needs: Naming | None = None


@dataclass(slots=True, eq=False)
class Node:
    """A file or a folder: how it surely is, and what was done to it since."""

    steps: list[Step] = field(default_factory=list)

    def sync(self) -> None:
        """What was done is on the disk, but for what a failed sync has left in doubt."""
        for step in self.steps:
            step.durable = step.durable or not step.doubted
        while self.steps and self.steps[0].durable:
            self._settle(self.steps.pop(0))

    def doubt(self) -> None:
        """A sync failed."""
        for step in self.steps:
            step.doubted = not step.durable

    def _settle(self, step: Step) -> None:
        raise NotImplementedError

    def kept(self, mode: Mode, rng: random.Random) -> list[Step]:
        """The steps that a cut keeps; in `FIRST` the last may be torn."""
        open_ = [step for step in self.steps if not step.durable]
        if mode is Mode.NOTHING:
            chosen: set[Step] = set()
        elif mode is Mode.EVERYTHING:
            chosen = set(open_)
        elif mode is Mode.FIRST:
            chosen = set(open_[: rng.randint(0, len(open_))])
        else:
            chosen = {step for step in open_ if rng.random() < 0.5}
        return [step for step in self.steps if step.durable or step in chosen]


@dataclass(slots=True, eq=False)
class File(Node):
    """now: as processes see it; sure: before `steps`."""

    now: bytearray = field(default_factory=bytearray)
    sure: bytearray = field(default_factory=bytearray)

    def write(self, offset: int, data: bytes | None) -> None:
        """A write, or with None a truncation."""
        step = Write(offset=offset, data=data)
        self.steps.append(step)
        step.on(self.now, data, offset)

    def _settle(self, step: Step) -> None:
        assert isinstance(step, Write)
        step.on(self.sure, step.data, step.offset)

    def cut(self, mode: Mode, rng: random.Random) -> bytes:
        """What a power cut leaves of it."""
        content = bytearray(self.sure)
        kept = self.kept(mode, rng)
        for step in kept:
            assert isinstance(step, Write)
            torn = not step.durable and (mode is Mode.ANY and rng.random() < 0.5)
            torn = torn or (not step.durable and mode is Mode.FIRST and step is kept[-1])
            if not torn or step.data is None:
                step.on(content, step.data, step.offset)
                continue
            sector, at, end = rng.choice(SECTORS), step.offset, step.offset + len(step.data)
            if mode is Mode.ANY and rng.random() < 0.5:
                step.on(content, b"", end)  # it is longer already, and what is missing reads as zeros
            while at < end:
                until = min(end, at - at % sector + sector)
                if rng.random() < 0.5:
                    step.on(content, step.data[at - step.offset : until - step.offset], at)
                elif mode is Mode.FIRST:
                    break
                at = until
        return bytes(content)


@dataclass(slots=True, eq=False)
class Folder(Node):
    """now: as processes see it; sure: before `steps`."""

    now: dict[str, Node] = field(default_factory=dict)
    sure: dict[str, Node] = field(default_factory=dict)

    def name(self, names: dict[str, Node | None], needs: Naming | None = None) -> Naming:
        """Names appear and go."""
        step = Naming(names=names, needs=needs)
        self.steps.append(step)
        _apply(self.now, step)
        return step

    def _settle(self, step: Step) -> None:
        assert isinstance(step, Naming)
        _apply(self.sure, step)


def _apply(names: dict[str, Node], step: Naming) -> None:
    for name, node in step.names.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Disk:
    """All that lies below the folder that was recorded."""

    def __init__(self) -> None:
        self.root = Folder()
        self._nodes: dict[int, Node] = {}

    def take(self, entry: Entry) -> None:
        """Something happened."""
        node = self._nodes.get(entry.inode)
        match entry.kind:
            case "D" | "C":
                made: Node = Folder() if entry.kind == "D" else File()
                if not entry.path:
                    made = self.root
                else:
                    folder, name = self._place(entry.path)
                    folder.name({name: made})
                self._nodes[entry.inode] = made
            case "W" if isinstance(node, File):
                node.write(entry.offset, entry.data)
            case "T" if isinstance(node, File):
                node.write(entry.offset, None)
            case "N" if not entry.path.endswith(" (deleted)"):
                self._seen(entry)
            case "S" if node is not None:
                node.sync()
            case "F" if node is not None:
                node.doubt()
            case "R":
                (old, name), (new, other) = self._place(entry.path), self._place(entry.other)
                moved = old.now[name]
                if new.now.get(other) is moved:
                    return  # two names of one file: nothing happens
                if old is new:
                    old.name({other: moved, name: None})
                else:
                    old.name({name: None}, new.name({other: moved}))
            case "L":
                (old, name), (new, other) = self._place(entry.path), self._place(entry.other)
                new.name({other: old.now[name]})
            case "U":
                folder, name = self._place(entry.path)
                folder.name({name: None})

    def _seen(self, whole: Entry) -> None:
        """What maps and stdio have made and written is not in the record: it came at some time before this."""
        folder, name = self._place(whole.path)
        if name not in folder.now:
            self._nodes[whole.inode] = File()
            folder.name({name: self._nodes[whole.inode]})
        file = folder.now[name]
        assert isinstance(file, File)
        if file.now != whole.data:
            if len(whole.data) < len(file.now):
                file.write(len(whole.data), None)
            file.write(0, whole.data)

    def _place(self, path: str) -> tuple[Folder, str]:
        *folders, name = path.split("/")
        at: Node = self.root
        for one in folders:
            assert isinstance(at, Folder)
            at = at.now[one]
        assert isinstance(at, Folder)
        return at, name

    def cut(self, into: Path, mode: Mode, rng: random.Random) -> None:
        """Write what a power cut now would leave into an empty folder."""
        there: dict[Node, Path] = {}
        kept: dict[Folder, list[Step]] = {}
        for folder in self._folders():
            kept[folder] = folder.kept(mode, rng)
        done = {step for steps in kept.values() for step in steps}
        settled = {step for folder in kept for step in folder.steps}
        waiting = [(self.root, into)]
        while waiting:
            folder, at = waiting.pop()
            names = dict(folder.sure)
            for step in kept.get(folder, folder.steps):
                assert isinstance(step, Naming)
                if step.needs is None or step.needs in done or step.needs not in settled:
                    _apply(names, step)
            for name, node in names.items():
                if isinstance(node, Folder):
                    (at / name).mkdir()
                    waiting.append((node, at / name))
                elif node in there:
                    os.link(there[node], at / name)
                else:
                    assert isinstance(node, File)
                    (at / name).write_bytes(node.cut(mode, rng))
                    there[node] = at / name

    def _folders(self) -> Iterator[Folder]:
        """All folders that are there for processes, or may be after a cut."""
        seen: set[Node] = set()
        waiting: list[Node] = [self.root]
        while waiting:
            node = waiting.pop()
            if node in seen or not isinstance(node, Folder):
                continue
            seen.add(node)
            yield node
            waiting += [*node.now.values(), *node.sure.values()]
            for step in node.steps:
                assert isinstance(step, Naming)
                waiting += [one for one in step.names.values() if one is not None]
