"""Kinds of evidence are measured on stored flows where they are asked for, and only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

import apptell
from apptell.errors import UsageError
from apptell.experiments.by_evidence import EvidenceOfFlows
from apptell.testing import flow_batch

if TYPE_CHECKING:
    from pathlib import Path

    from apptell.flows.schema import FlowBatch

LABELS = ["whatsapp", "Telegram/chat", "other", "signal", "whatsapp", "mine"]
NAMES = ["g.whatsapp.net", "api.telegram.org", "x.elsewhere.test", None, "web.telegram.org", None]
ASKED = [None, None, None, "chat.signal.org", None, "a.mine.example"]


@pytest.fixture
def flows() -> FlowBatch:
    return flow_batch(LABELS).with_columns(
        server_name=pa.array(NAMES, pa.string()), dns_name=pa.array(ASKED, pa.string())
    )


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text("mine.example,Mine\n", encoding="utf-8")
    return path


def _kinds(found: Any) -> dict[str, tuple[int, float]]:
    return {each.kind: (each.n_flows, each.accuracy) for each in found.kinds}


def test_each_kind_decides_what_those_before_it_left_open(flows: FlowBatch, mine: Path) -> None:
    of_names = EvidenceOfFlows("name,dns", [mine], flows, LABELS).measure()
    assert _kinds(of_names) == {"name": (3, 2 / 3), "dns": (2, 1.0)}
    assert of_names.coverage == pytest.approx(5 / 6)
    assert of_names.accuracy == pytest.approx(4 / 5)
    guess = ["signal", "signal", "other", "zoom", "signal", "zoom"]
    accepted = np.array([True, True, True, True, False, True])
    both = EvidenceOfFlows("name,model", [mine], flows, LABELS).measure(guess, accepted)
    assert _kinds(both) == {"name": (3, 2 / 3), "model": (3, 1 / 3)}
    assert both.to_json()["kinds"]["model"]["share"] == 0.5
    some = EvidenceOfFlows("name", [], flows, LABELS).measure(rows=np.array([0, 4]))
    assert (some.n_flows, some.accuracy) == (2, 0.5)


@pytest.mark.parametrize(
    ("kinds", "fault"),
    [
        ("address", "'address' rests on other flows of a capture, which a dataset does not store"),
        ("all", "'address' rests on other flows"),
        ("name,context", "'context' rests on other flows"),
        ("names", "no evidence 'names'"),
    ],
)
def test_evidence_that_no_dataset_holds_is_refused(
    flows: FlowBatch, kinds: str, fault: str
) -> None:
    with pytest.raises(UsageError, match=fault):
        EvidenceOfFlows(kinds, [], flows, LABELS)


def test_evidence_that_this_dataset_does_not_hold_is_refused() -> None:
    bare = flow_batch(["signal"]).with_columns(server_name=pa.nulls(1, pa.string()))
    with pytest.raises(UsageError, match="'dns': the dataset stores no names that were asked"):
        EvidenceOfFlows("dns", [], bare, ["signal"])
    with pytest.raises(UsageError, match="'name': the dataset stores no names of flows"):
        EvidenceOfFlows("name", [], bare, ["signal"])


def test_models_are_measured_alone_and_on_request_behind_evidence(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = [{"source": f"s{i // 2 % 4}"} for i in range(24)]
    labels = ["signal" if i % 2 else "zoom" for i in range(24)]
    names = [None if i % 3 else f"{label}.org" for i, label in enumerate(labels)]
    many = flow_batch(labels, groups=groups).with_columns(server_name=pa.array(names, pa.string()))
    model = apptell.train(many, "paper-rf", split="source").model
    found = apptell.evaluate(model, many, evidence="name,model", catalogue=[mine])
    assert found.by_evidence is not None
    kinds = found.to_json()["evidence"]["kinds"]
    assert kinds["name"] == {"flows": 4, "share": 1 / 6, "accuracy": 1.0}
    assert kinds["model"]["flows"] > 10
    compared = apptell.compare(
        many, ["paper-rf"], only=True, folds=2, held_out=0, evidence="name,model"
    )
    assert set(compared.facts["evidence"]) == {"paper-rf-names-on", "paper-rf-names-masked"}
    assert compared.facts["evidence"]["paper-rf-names-on"]["kinds"]["name"]["accuracy"] == 1.0
    with pytest.raises(UsageError, match="choose kinds of evidence"):
        apptell.evaluate(model, many, catalogue=[mine])
    monkeypatch.setattr("apptell.catalogue.Catalogue.load", None)  # is not called
    assert apptell.evaluate(model, many).by_evidence is None
