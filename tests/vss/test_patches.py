"""What a payload becomes."""

from __future__ import annotations

import json

import pytest

from vss.errors import VssError
from vss.patches import PayloadPatch, patched

BASE = {"a": {"b": 1, "c": [1, 2]}, "list": [{"x": 1}, 5, {"x": 2}], "a.b": {"dotted": True}, "n": None}


@pytest.mark.parametrize(
    ("patch", "wanted"),
    [
        (PayloadPatch(set={"n": 1, "new": [1]}), BASE | {"n": 1, "new": [1]}),
        (PayloadPatch(set={"n": 1}, overwrite=True), {"n": 1}),
        (PayloadPatch(set={"a": None, "new": None}), {name: BASE[name] for name in ("list", "a.b", "n")}),
        (PayloadPatch(set={"b": None, "z": [None]}, key="a"), BASE | {"a": {"c": [1, 2], "z": [None]}}),
        (PayloadPatch(set={"z": None}, key="deep.er"), BASE | {"deep": {"er": {}}}),
        (PayloadPatch(set={"n": None}, overwrite=True), {"n": None}),
        (PayloadPatch(clear=True), {}),
        (PayloadPatch(clear=True, set={"z": 1}), {"z": 1}),
        (PayloadPatch(set={"b": 2}, key="a"), BASE | {"a": {"b": 2, "c": [1, 2]}}),
        (PayloadPatch(set={"b": 2}, key="a", overwrite=True), BASE | {"a": {"b": 2}}),
        (PayloadPatch(set={"z": 1}, key="deep.er"), BASE | {"deep": {"er": {"z": 1}}}),
        (PayloadPatch(set={"z": 1}, key="n.er"), BASE | {"n": {"er": {"z": 1}}}),
        (PayloadPatch(set={"y": 0}, key="list[]"), BASE | {"list": [{"x": 1, "y": 0}, {"y": 0}, {"x": 2, "y": 0}]}),
        (PayloadPatch(set={"y": 0}, key="list[2]"), BASE | {"list": [{"x": 1}, 5, {"x": 2, "y": 0}]}),
        (PayloadPatch(set={"y": 0}, key="list[9]"), BASE),
        (PayloadPatch(set={"y": 0}, key="absent[]"), BASE | {"absent": []}),
        (PayloadPatch(set={"y": 0}, key="absent.list[0]"), BASE | {"absent": {"list": []}}),
        (PayloadPatch(set={"y": 0}, key="a[]"), BASE | {"a": []}),
        (PayloadPatch(set={"y": 0}, key='"a.b"'), BASE | {"a.b": {"dotted": True, "y": 0}}),
        (
            PayloadPatch(delete=("n", "missing", "a.b")),
            {k: v for k, v in BASE.items() if k != "n"} | {"a": {"c": [1, 2]}},
        ),
        (PayloadPatch(delete=("list[].x",)), BASE | {"list": [{}, 5, {}]}),
        (PayloadPatch(delete=("a.c[0]",)), BASE),
        (PayloadPatch(delete=("list[0].x",)), BASE | {"list": [{}, 5, {"x": 2}]}),
        (PayloadPatch(delete=("a.c[]",)), BASE | {"a": {"b": 1, "c": []}}),
        (PayloadPatch(delete=('"a.b".dotted',)), BASE | {"a.b": {}}),
    ],
)
def test_patches(patch: PayloadPatch, wanted: dict[str, object]) -> None:
    assert json.loads(patched(json.dumps(BASE).encode(), patch)) == wanted


def test_a_key_that_is_no_path_is_refused() -> None:
    with pytest.raises(VssError, match="path"):
        patched(b"{}", PayloadPatch(set={}, key="a..b"))
