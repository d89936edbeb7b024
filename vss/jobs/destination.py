"""Where an import's generation goes. The import reads, embeds and builds; the destination says with what and keeps it.

LivingCollection    `living`    a collection of a data directory, with writers at work
Bundle              `bundles`   a folder anywhere, which `vss publish` adopts
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from vss.jobs.progress import Reporter
from vss.schema import Schema
from vss.storage.artifacts import ArtifactStore
from vss.storage.manifest import ModelRecord, SegmentRecord
from vss.types import Vectors

Published = TypeVar("Published", covariant=True)


@dataclass(frozen=True, slots=True)
class Site:
    """Where a segment is built.

    staged:      a folder that does not exist yet, on the file system of the artifacts
    started_seq: the sequence number that the imported rows count as written at
    """

    staged: Path
    artifacts: ArtifactStore
    started_seq: int


class Destination(Protocol[Published]):
    """What an import needs to know and to have done. Called from one thread, in this order."""

    created: bool
    """Whether the import made the collection: by `create`, or before it was killed and went on."""

    resumes: bool
    """Whether another process finds what this one has staged: an import that is told to stop leaves it there."""

    @property
    def name(self) -> str:
        """The collection's name."""

    def schema(self) -> Schema | None:
        """The schema that the rows must fit; None when `create` is still to make one."""

    def canaries(self, vector_name: str) -> Vectors | None:
        """`(32, dim)` that the embedder must reproduce; None when there are none yet."""

    def create(self, schema: Schema) -> Schema:
        """Take the schema that the first usable rows show; return the one that stands.

        VssError: INVALID, ALREADY_EXISTS.
        """

    def begin(self) -> Site:
        """Where to build; the schema stands by now."""

    def hold(self, site: Site) -> None:
        """Remember, in the folder that is being built in, since when writes win over what is built."""

    def publish(
        self, site: Site, segment: SegmentRecord, models: dict[str, ModelRecord], source: str, reporter: Reporter
    ) -> Published:
        """Keep what was built. source: what made it, for people; reporter: told of this phase."""

    def undo(self) -> None:
        """The import failed: remove what it `created`, unless somebody has used it since."""
