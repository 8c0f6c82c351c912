"""The card of a model says what tells each app, and in how many sources it was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apptell.learning import train_model
from apptell.testing import client_hello, flow_batch

if TYPE_CHECKING:
    from pathlib import Path

    from apptell.models import Model


def data(size: int) -> bytes:
    return b"\x17\x03\x03" + size.to_bytes(2) + bytes(size)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """Two apps that differ in one record; the record of 777 bytes comes from two sources of three."""
    messages, labels, groups = [], [], []
    for at in range(12):
        app = "signal" if at % 2 else "zoom"
        size = (777 if at % 3 else 300 + at) if app == "signal" else 55
        hello = client_hello("secret-name.example", seed=at)
        messages.append([(True, hello), (False, data(90)), (True, data(size)), (False, data(70))])
        labels.append(app)
        groups.append({"source": f"s{at % 3}"})
    flows = flow_batch(labels, messages=messages, groups=groups)
    place = tmp_path_factory.mktemp("trained") / "model"
    return train_model(flows, labels, model="fast", out=place), place


def test_fields_are_in_words_with_their_sources(trained: tuple[Model, Path]) -> None:
    model, _ = trained
    rows = {row["words"]: row for row in model.info["tells"]["signal"]}
    row = rows["record of 777 bytes to the server"]
    assert row["weight"] > 0
    assert row["sources"] == 2
    assert row["flows"] == pytest.approx(2 / 3, abs=1e-3)
    assert any("55 bytes to the server" in each["words"] for each in model.info["tells"]["zoom"])


def test_no_name_is_in_the_folder(trained: tuple[Model, Path]) -> None:
    _, place = trained
    card = (place / "README.md").read_text("utf-8")
    assert "record of 777 bytes to the server" in card
    for file in ("README.md", "model.json"):
        assert "secret" not in (place / file).read_text("utf-8")
