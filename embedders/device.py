"""Where a model runs here, and in which precision: chosen by measuring, not by reading processor names.

The candidates embed the canary texts. The fastest one wins among those whose vectors agree with float32; what was
decided is noted, so that the next start need not measure.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
import transformers

from embedders.encoder import Encoder
from embedders.notes import Notes
from vss.canary import AGREEMENT, TEXTS
from vss.errors import invalid
from vss.types import Role, Vectors
from vss.vectors import normalised

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
_REPETITIONS = 5
_HOPELESS = 3.0
_PATH_SAMPLE = TEXTS[7:27:2]
_SAME_PATH = 0.999
"""Smallest cosine in float32 between our forward pass and the library's; padding alone costs about 1e-6."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """Where and how a model runs. direct: by our forward pass (see `Encoder.direct`)."""

    device: str
    precision: str
    direct: bool


def choose(
    open_encoder: Callable[[str, str], Encoder], precision: str, identity: str, notes: Notes
) -> tuple[Encoder, Choice]:
    """The encoder to serve with.

    open_encoder: (device, precision) -> a freshly loaded encoder
    precision:    one of `PRECISIONS`; "auto" measures
    identity:     what the notes know the model by
    """
    if precision not in PRECISIONS:
        raise invalid(f"got the precision {precision!r}, wanted one of {', '.join(PRECISIONS)}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    key = f"choice {identity} {precision} {_machine(device)}"
    noted = _noted(notes, key)
    if noted is not None:
        encoder = open_encoder(noted.device, noted.precision)
        encoder.direct = noted.direct
        return encoder, noted
    encoder, choice = _measure(open_encoder, device, precision)
    notes.put(key, asdict(choice))
    return encoder, choice


def _measure(open_encoder: Callable[[str, str], Encoder], device: str, precision: str) -> tuple[Encoder, Choice]:
    """Float32 first, because it is what the others must agree with."""
    best = open_encoder(device, "float32")
    best.direct = best.direct and _agrees_with_library(best)
    direct = best.direct
    if precision == "float32":
        return best, Choice(device, "float32", direct)
    reference = best.sentences(TEXTS, Role.DOCUMENT)
    able = {"float32": best}
    for rival in [precision] if precision != "auto" else ["bfloat16", *(["float16"] if device == "cuda" else [])]:
        encoder = open_encoder(device, rival)
        encoder.direct = direct
        cosines = _cosines(encoder.sentences(TEXTS, Role.DOCUMENT), reference)
        _log.info("%s in %s: cosine to float32 worst %.5f mean %.5f", device, rival, cosines.min(), cosines.mean())
        if cosines.min() >= AGREEMENT:
            able[rival] = encoder
        else:
            _log.warning("%s does not reproduce float32 here and is not used", rival)
    if precision != "auto" and precision in able:
        return able[precision], Choice(device, precision, direct)
    seconds = _seconds(able)
    chosen = min(able, key=lambda name: seconds[name])
    _log.info("chose %s in %s: canaries in seconds %s", device, chosen, seconds)
    return able[chosen], Choice(device, chosen, direct)


def _agrees_with_library(encoder: Encoder) -> bool:
    """Whether our forward pass makes what `model.encode` makes, for each prompt that the model has."""
    for role in {encoder.prompt(role): role for role in Role}.values():
        ours = encoder.sentences(_PATH_SAMPLE, role)
        encoder.direct = False
        theirs = encoder.sentences(_PATH_SAMPLE, role)
        encoder.direct = True
        if not _cosines(ours, theirs).min() >= _SAME_PATH:
            _log.warning("our forward pass differs from the library's for this model: using the library's")
            return False
    return True


def _seconds(able: dict[str, Encoder]) -> dict[str, float]:
    """The least time of each for the canaries. They take turns, and the least counts, so that other work on the
    machine, which slows some of the turns, does not decide. All are warm: they have embedded the canaries before.

    One that is `_HOPELESS` times as slow as the best has no further turn: bfloat16 without instructions for it would
    have a first start wait for half a minute.
    """
    taken: dict[str, list[float]] = {name: [] for name in able}
    racing = dict(able)
    for _ in range(_REPETITIONS):
        for name, encoder in racing.items():
            start = time.perf_counter()
            encoder.sentences(TEXTS, Role.DOCUMENT)
            taken[name].append(time.perf_counter() - start)
        least = min(min(times) for times in taken.values())
        racing = {name: encoder for name, encoder in racing.items() if min(taken[name]) < _HOPELESS * least}
    return {name: min(times) for name, times in taken.items()}


def _cosines(made: Vectors, reference: Vectors) -> Vectors:
    if not np.isfinite(made).all():
        return np.full(len(made), -1.0, dtype=np.float32)
    cosines: Vectors = np.einsum("ij,ij->i", normalised(made), normalised(reference))
    return cosines


def _machine(device: str) -> str:
    """What a measured speed depends on."""
    chip = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    versions = f"torch {torch.__version__} transformers {transformers.__version__}"
    return f"{platform.node()} {platform.machine()} {chip} {torch.get_num_threads()} threads {versions}"


def _noted(notes: Notes, key: str) -> Choice | None:
    try:
        return Choice(**notes.get(key))
    except TypeError:  # nothing noted, or noted by another version
        return None
