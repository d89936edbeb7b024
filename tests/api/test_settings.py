"""Settings: what is wrong is named before anything starts."""

from __future__ import annotations

import logging

import pytest

from api.settings import read_settings
from vss.errors import VssError


def test_lists_are_given_with_commas_or_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSS_MODELS", "hashing, hashing-64")
    assert read_settings().models == ("hashing", "hashing-64")
    monkeypatch.setenv("VSS_MODELS", '["hashing"]')
    assert read_settings().models == ("hashing",)
    monkeypatch.delenv("VSS_MODELS")
    assert read_settings().models is None
    assert read_settings(port=7).port == 7


@pytest.mark.parametrize(
    ("name", "value"), [("THREADS", "x"), ("THREADS", "0"), ("PORT", "99999"), ("MAX_BODY_BYTES", "1"), ("MODELS", "[")]
)
def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"VSS_{name}", value)
    with pytest.raises(VssError, match=f"VSS_{name}: got") as caught:
        read_settings()
    assert "this is a bug" not in str(caught.value)


def test_an_unknown_variable_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("VSS_THREADZ", "3")
    with caplog.at_level(logging.WARNING):
        read_settings()
    assert "VSS_THREADZ" in caplog.text
