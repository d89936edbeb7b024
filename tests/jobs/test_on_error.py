"""Bad rows: written down, or the end of the import; and never more of them than the cap."""

from __future__ import annotations

from typing import Any

import pytest

from tests.jobs.conftest import Run, Write
from tests.jobs.test_importer import letters, names
from vss.errors import VssError
from vss.jobs import chunks
from vss.jobs.dead_letters import OnError
from vss.storage.datadir import DataDir


def rows(count: int, bad: set[int]) -> list[dict[str, Any]]:
    return [{"id": n, "vector": [0.0, 0.0] if n in bad else [1.0, n]} for n in range(count)]


def test_abort_names_the_first_bad_row_and_publishes_nothing(data: DataDir, write: Write, run: Run) -> None:
    mixed: list[Any] = rows(20, {7})
    mixed[9] = "{"
    file = write(mixed)
    with pytest.raises(VssError, match=rf"line 8 of {file} cannot be stored: .*zero vector.*nothing was published"):
        run(file, on_error=OnError.ABORT)
    assert names(data) == []
    assert not (data.path / "dead-letters").exists()


def test_letters_stand_in_the_order_of_the_rows(write: Write, run: Run) -> None:
    mixed: list[Any] = rows(20, {3, 8})
    mixed[5] = "{"
    assert [one.line for one in letters(run(write(mixed)).dead_letters)] == [4, 6, 9]


@pytest.mark.parametrize(
    ("count", "bad", "share", "fine"),
    [
        (11, 10, 0.1, True),
        (109, 11, 0.1, False),
        (110, 11, 0.1, True),
        (40, 11, 0.5, True),
        (1_000, 11, 0.0, False),
    ],
)
def test_too_many_bad_rows_publish_nothing(
    data: DataDir, write: Write, run: Run, count: int, bad: int, share: float, fine: bool
) -> None:
    file = write(rows(count, set(range(bad))))
    if fine:
        assert run(file, max_bad_share=share).rejected == bad
        return
    with pytest.raises(VssError, match=f"{bad} of {count:,} rows were refused .*wanted at most {share:.1%}") as error:
        run(file, max_bad_share=share)
    assert str(data.path / "dead-letters") in str(error.value)
    assert names(data) == []


def test_a_hopeless_file_is_not_read_to_its_end(write: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 50)
    with pytest.raises(VssError) as error:
        run(write(rows(1_000, set(range(1, 1_000)))))
    seen = int(str(error.value).split(" of ")[1].split(" rows")[0].replace(",", ""))
    assert 200 <= seen <= 300
