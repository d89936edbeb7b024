"""Histories of the collection machine, each of which hangs on nothing but the number of its seed.

python -m tests.machines.histories --steps 200000 --out results.jsonl
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.machines.collection_machine import SEEN, CollectionMachine
from tests.machines.reading_process import ReadingProcess
from tests.proofs.outcome import long_run


@contextmanager
def reading() -> Iterator[ReadingProcess]:
    """The process that reads at every step; what was `SEEN` begins anew."""
    SEEN.clear()
    process = ReadingProcess()
    try:
        yield process
    finally:
        process.close()


def run(process: ReadingProcess, number: int, examples: int, steps: int) -> None:
    """Those of a seed: so many, of so many steps at most."""
    machine = seed(number)(type("Collection", (CollectionMachine,), {"process": process}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def run_many(process: ReadingProcess, number: int, steps: int, over: Callable[[], bool] = lambda: False) -> None:
    """`run` with one seed after the other, until there were so many steps or it is `over`."""
    while SEEN["steps"] < steps and not over():
        try:
            run(process, number, examples=30, steps=60)
        except BaseException as error:
            error.add_note(f"again: python -m tests.machines.histories --steps 1 --seed {number}")
            raise
        SEEN["last seed"] = number
        number += 1


def main() -> None:
    """The long form."""
    asked = long_run("machine", "steps", 200_000, __doc__)
    with reading() as process, asked.told(SEEN):
        run_many(process, asked.seed, asked.wanted, lambda: asked.over)


if __name__ == "__main__":
    main()
