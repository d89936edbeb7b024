"""What is known of a filter before payloads are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vss.filters import Condition, Filter
from vss.types import Mask


class Bounds(NamedTuple):
    """What is known of a filter: rows that pass, and rows beside which none does; one array for both where no row is
    open. Payloads that were read for it."""

    sure: Mask
    maybe: Mask
    read: int = 0

    def both(self, other: Bounds) -> Bounds:
        """What is known of the two together."""
        sure = self.sure & other.sure
        told = self.sure is self.maybe and other.sure is other.maybe
        return Bounds(sure, sure if told else self.maybe & other.maybe, self.read + other.read)

    def opposite(self) -> Bounds:
        """What is known of its negation."""
        sure = ~self.maybe
        return Bounds(sure, sure if self.sure is self.maybe else ~self.sure, self.read)


def told(where: Condition, answers: Callable[[Condition], bool]) -> bool:
    """Whether no payload has to be read; `answers` says it of a condition that is no filter."""
    if not isinstance(where, Filter):
        return answers(where)
    least = () if where.min_should is None else where.min_should.conditions
    return all(told(one, answers) for one in (*where.must, *where.should, *where.must_not, *least))
