"""What is wrong with a collection in this process, and what that means for those who use it."""

from __future__ import annotations

from dataclasses import dataclass

from vss.engines.local import LocalEngine
from vss.errors import VssError
from vss.storage.refusals import Refusal, Refusals


@dataclass(frozen=True, slots=True)
class Health:
    """One collection.

    unreadable: why queries are refused: what is damaged cannot be had from elsewhere
    refusing:   why this process cannot write to it at the moment; queries go on
    refused:    why the last build is not served; the generation before it is
    damage:     what is damaged and can be built again: answers are whole, and take longer
    """

    unreadable: VssError | None = None
    refusing: VssError | None = None
    refused: Refusal | None = None
    damage: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """All of it, for people."""
        said = [] if self.unreadable is None else [f"queries are refused: {self.unreadable.message}"]
        said += [] if self.refusing is None else [f"it takes no writes: {self.refusing.message}"]
        said += [] if self.refused is None else [f"{self.refused.builds} builds were refused: {self.refused.what}"]
        return said + [f"to be built again: {one}" for one in self.damage]


def health(engine: LocalEngine, name: str) -> Health:
    """How a collection is. VssError (NOT_FOUND)."""
    try:
        collection = engine.collection(name)
    except VssError as error:
        engine.entry(name)
        return Health(unreadable=error)
    try:
        collection.view()
    except VssError as error:
        return Health(error, collection.log.refusing, damage=collection.damage)
    refused = Refusals(collection.folder).read()
    return Health(None, collection.log.refusing, refused, collection.damage)


def problems(engine: LocalEngine) -> list[str]:
    """Everything that is wrong, a line each; empty when all is well."""
    try:
        entries = engine.entries()
    except VssError as error:
        return [f"no collection can be found: {error.message}"]
    said = [f"collection {entry.name}: {one}" for entry in entries for one in health(engine, entry.name).problems()]
    refusing = engine.catalog_refusing()
    return said if refusing is None else [f"collections cannot be made or changed: {refusing.message}", *said]
