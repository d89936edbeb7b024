"""The folder of a bundle, at any URI that fsspec opens. Only hashes become names below it."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from vss.errors import Code, VssError, invalid
from vss.jobs.bundles.manifest import corrupt
from vss.jobs.sources.systems import answering, file_system, shown
from vss.storage.artifacts import Artifact
from vss.types import Progress

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 << 20
_BLOCK = 4 << 20
_PROBE = "probe"


class BundleFolder:
    """A folder that holds a bundle, or will; used in a `with` statement.

    uri: as people may see it
    VssError: INVALID for a protocol that nothing opens, STORAGE when the file system does not answer.
    """

    def __init__(self, uri: str) -> None:
        self.uri = shown(uri)
        self._place = uri
        self._written: list[str] = []
        self._stack = ExitStack()
        self._files, path = self._stack.enter_context(file_system(uri))
        self._root = path.rstrip("/")
        self._has_folders = isinstance(self._files, LocalFileSystem | MemoryFileSystem)

    def check_empty(self) -> None:
        """VssError (INVALID) when something is there already."""
        with answering(self._place):
            self._files.invalidate_cache()
            if self._files.exists(self._root) and (
                not self._files.isdir(self._root) or self._files.ls(self._root, detail=False)
            ):
                raise invalid(
                    f"{self.uri} is not an empty folder", field="out", hint="empty it, or choose another place"
                )

    def check_writable(self) -> None:
        """VssError (STORAGE) when nothing can be written there: told before hours of building."""
        with answering(self._place):
            self._make_folder()
            self._files.pipe_file(f"{self._root}/artifacts/{_PROBE}", b"probe")
            self._files.rm_file(f"{self._root}/artifacts/{_PROBE}")
        self.remove_written()

    def put(self, artifact: Artifact, source: Path) -> None:
        """Copy one file into the bundle."""
        with answering(self._place):
            self._make_folder()
            self._written.append(self._path(artifact))
            self._files.put_file(str(source), self._path(artifact))

    def _make_folder(self) -> None:
        # Elsewhere folders come with their files, and some file systems would make a bucket of a typing mistake.
        if self._has_folders:
            self._files.makedirs(f"{self._root}/artifacts", exist_ok=True)

    def put_manifest(self, data: bytes) -> None:
        """Finish the bundle."""
        with answering(self._place):
            self._written.append(f"{self._root}/{MANIFEST}")
            self._files.pipe_file(f"{self._root}/{MANIFEST}", data)

    def remove_written(self) -> None:
        """Remove what this process has put there, as far as the file system still answers."""
        for path in reversed(self._written):
            with suppress(FileNotFoundError, VssError), answering(self._place):
                self._files.rm_file(path)
        # Only of folders: an object store would remove an empty bucket.
        for folder in (f"{self._root}/artifacts", self._root) if self._has_folders else ():
            with suppress(OSError):
                self._files.rmdir(folder)

    def manifest(self) -> bytes:
        """The bytes of its manifest. VssError (NOT_FOUND) when there is none."""
        with answering(self._place):
            try:
                with self._files.open(f"{self._root}/{MANIFEST}", "rb") as file:
                    data: bytes = file.read(MAX_MANIFEST_BYTES + 1)
            except FileNotFoundError as error:
                raise VssError(
                    Code.NOT_FOUND,
                    f"there is no bundle at {self.uri}: it has no {MANIFEST}",
                    field="uri",
                    hint="vss index --out makes one, and writes that file last",
                ) from error
        if len(data) > MAX_MANIFEST_BYTES:
            raise corrupt(self.uri, f"{MANIFEST} has more than {MAX_MANIFEST_BYTES} bytes")
        return data

    def fetch(self, artifact: Artifact, what: str, target: Path, progress: Progress) -> None:
        """Copy one file out of the bundle, hashed on the way. VssError (CORRUPT) names it when it is another.

        what: the file, for people; progress: counts bytes
        """
        shown = f"artifacts/{artifact.sha256} ({what})"
        digest, size = hashlib.sha256(), 0
        with answering(self._place):
            try:
                source = self._files.open(self._path(artifact), "rb")
            except FileNotFoundError as error:
                raise corrupt(self.uri, f"{shown} is missing") from error
            with source, open(target, "xb") as out:
                while size <= artifact.bytes and (block := source.read(_BLOCK)):
                    digest.update(block)
                    size += len(block)
                    out.write(block)
                    progress(len(block))
        if size != artifact.bytes:
            more = "more than " if size > artifact.bytes else ""
            raise corrupt(self.uri, f"{shown} has {more}{min(size, artifact.bytes)} bytes, wanted {artifact.bytes}")
        if digest.hexdigest() != artifact.sha256:
            raise corrupt(self.uri, f"{shown} does not have the bytes that its name says")

    def _path(self, artifact: Artifact) -> str:
        return f"{self._root}/artifacts/{artifact.sha256}"

    def close(self) -> None:
        """Close the connection."""
        self._stack.close()

    def __enter__(self) -> BundleFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
