"""How figures are made and written: rounds that take turns, medians with their spread, one JSON line for each.

rounds   runs every case once a round, so that what disturbs the machine disturbs all alike
spread   median, least, most and quartiles
ratios   the same of each round's value over the baseline's value of that round
Report   writes the lines, each with the machine, versions, seed, date, load and command line
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

import numpy as np

from vss.errors import Code, VssError, invalid
from vss.types import Progress, no_progress

FLAGS = ("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8")
"""Abilities of an x86 processor that decide how fast vectors are compared; ARM's are `ARM_FLAGS`."""

ARM_FLAGS = ("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2")

PACKAGES = {
    "faiss": "faiss-cpu",
    "h5py": "h5py",
    "hnswlib": "hnswlib",
    "numpy": "numpy",
    "sentence_transformers": "sentence-transformers",
    "torch": "torch",
    "uvicorn": "uvicorn",
}
"""Module -> the package whose version a line names when the module was loaded."""

Values = Sequence[float]

Case = TypeVar("Case", bound=Hashable)


def machine() -> dict[str, Any]:
    """This machine: processor, cores that this process may use, the flags that matter, memory in GiB, kernel."""
    info = _cpu_info()
    flags = set(info.get("flags", info.get("Features", "")).split())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": info.get("model name", platform.processor() or platform.machine()),
        "arch": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in (*FLAGS, *ARM_FLAGS) if flag in flags],
        "memory_gib": round(memory, 1),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Of vss, Python, and the libraries of `PACKAGES` that this process has loaded."""
    found = {"vss": _version("vss-service"), "python": platform.python_version()}
    return found | {module: _version(package) for module, package in PACKAGES.items() if module in sys.modules}


def rounds(
    cases: Mapping[Case, Callable[[], float]], repetitions: int, progress: Progress = no_progress
) -> dict[Case, list[float]]:
    """What each case returned, in each of the `repetitions` rounds.

    Every round runs every case once and begins at another place than the round before: nobody always runs first.
    """
    names = list(cases)
    values: dict[Case, list[float]] = {name: [] for name in names}
    for number in range(repetitions):
        turn = number * max(1, len(names) // repetitions) % max(1, len(names))
        for name in names[turn:] + names[:turn]:
            values[name].append(cases[name]())
            progress(1)
    return values


def spread(values: Values, digits: int = 4) -> dict[str, float]:
    """Median, least, most, and first and third quartile, to so many significant digits."""
    if not len(values):
        raise invalid("got no values, wanted at least one repetition")
    low, first, median, third, high = np.percentile(np.asarray(values, dtype=np.float64), [0, 25, 50, 75, 100])
    named = {"median": median, "min": low, "max": high, "q1": first, "q3": third}
    return {name: float(f"{value:.{digits}g}") for name, value in named.items()}


def ratios(values: Values, baseline: Values) -> dict[str, float]:
    """`spread` of each round's value over the baseline's value of the same round."""
    return spread([value / base for value, base in zip(values, baseline, strict=True)])


class Report:
    """Writes one JSON line for each figure, to a file or to stdout; used in a `with` statement.

    benchmark: what `vss bench` was asked to do, like "recall"
    out:       the file, appended to; None is stdout. VssError (STORAGE) when it cannot be written
    """

    def __init__(self, benchmark: str, *, seed: int, out: Path | None = None) -> None:
        self._benchmark = benchmark
        self._seed = seed
        self._machine = machine()
        self._command = shlex.join(["vss", *sys.argv[1:]])
        self._file: IO[str] = sys.stdout
        self._owned = out is not None
        if out is not None:
            try:
                self._file = out.open("a", encoding="utf-8")
            except OSError as error:
                raise VssError(
                    Code.STORAGE, f"{out} cannot be written: {error.strerror}", field="out", hint="name another file"
                ) from error

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owned:
            self._file.close()

    def write(self, figure: str, **fields: Any) -> None:
        """One line: `figure` names what was measured, `fields` hold the values, which JSON can say."""
        line = {
            "benchmark": self._benchmark,
            "figure": figure,
            **fields,
            "seed": self._seed,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "load": [round(load, 2) for load in os.getloadavg()],
            "command": self._command,
            "machine": self._machine,
            "versions": versions(),
        }
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()


def _cpu_info() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; nothing where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
