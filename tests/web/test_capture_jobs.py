"""What the process that reads captures does with a flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("duckdb")
pytest.importorskip("sklearn")
from apptell.learning import train_model
from apptell.models import load_model
from apptell.models.model_folder import ROWS_FILE
from apptell.reasons import KeptFlows
from apptell.testing import flow_batch
from apptell.web.capture_jobs import similar_flows

if TYPE_CHECKING:
    from pathlib import Path


def test_kept_rows_that_cannot_be_read_are_said_without_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = ["signal", "zoom"] * 8
    place = tmp_path / "model"
    train_model(flow_batch(labels, seed=0), labels, model="paper-rf", out=place, keep_rows=True)
    model, flow = load_model(place), flow_batch(["zoom"], seed=3)
    found = similar_flows(model, flow)
    assert found is not None
    assert found["words"].startswith("The 16 most similar of the 16 flows of the training set:")
    assert len(found["nearest"]) == 5

    def too_large(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(KeptFlows, "like", too_large)
        assert similar_flows(model, flow) == {
            "words": "The kept flows of the training set cannot be read: they need more memory than the server "
            "allows",
            "nearest": [],
        }
    (place / ROWS_FILE).write_bytes(b"damaged")
    assert similar_flows(model, flow) == {
        "words": "The kept flows of the training set cannot be read: its SHA-256 is not the one in model.json",
        "nearest": [],
    }


def test_a_model_that_keeps_no_rows_has_no_similar_flows() -> None:
    assert similar_flows(load_model(), flow_batch(["zoom"], seed=3)) is None
