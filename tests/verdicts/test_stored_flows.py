from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apptell.dataset import Dataset
from apptell.errors import ModelError, UsageError
from apptell.flows.schema import FlowBatch
from apptell.models import load_model
from apptell.testing import app_capture, flow_batch, tiny_model, write_pcap
from apptell.verdicts import EvidenceOptions, find_dataset, stored_batches, stored_evidence


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("stored")
    (folder / "captures" / "home").mkdir(parents=True)
    for app in ("signal", "zoom"):
        write_pcap(folder / "captures" / "home" / f"{app}.pcap", app_capture([app], 3, seed=7))
    return Dataset.build(folder / "captures", folder / "flows", labels="folders")


def test_a_dataset_is_found_by_itself_its_folder_or_a_list_with_it(dataset: Dataset) -> None:
    assert find_dataset(dataset) is dataset
    for source in (dataset.path, str(dataset.path), [str(dataset.path)], [dataset]):
        found = find_dataset(source)
        assert found is not None
        assert found.info["hash"] == dataset.info["hash"]


@pytest.mark.parametrize("source", ["-", "phone.pcap", ["a.pcap", "b.pcap"], "eth0\0", 3])
def test_captures_are_no_dataset(source: object) -> None:
    assert find_dataset(source) is None


def test_a_dataset_among_other_sources_is_refused(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="identify it by itself"):
        find_dataset([dataset.path, "phone.pcap"])


def test_evidence_of_stored_flows_leaves_out_what_rests_on_other_flows() -> None:
    assert stored_evidence(None).kinds == {"name", "dns", "range"}
    assert stored_evidence(None, "model/").kinds == {"name", "dns", "range", "model"}
    assert stored_evidence("all", "model/").kinds == {"name", "dns", "range", "model"}
    one = EvidenceOptions(frozenset({"name"}))
    assert stored_evidence(one) is one
    with pytest.raises(UsageError, match="evidence 'address' rests on other flows"):
        stored_evidence("name,address")
    with pytest.raises(UsageError, match="no evidence 'smell'"):
        stored_evidence("smell")


class InMemory(Dataset):
    """A dataset whose flows are in memory."""

    def __init__(self, flows: FlowBatch) -> None:
        super().__init__(Path("here"), {})
        self.flows = flows

    def batches(self, *_: Any, **__: Any) -> Iterator[FlowBatch]:
        for row in range(len(self.flows)):
            yield self.flows.take(np.array([row]))


def test_late_views_are_not_identified() -> None:
    flows = flow_batch(["signal", "zoom", "zoom"])
    views = flows.with_columns(part_of=[None, *flows.column("connection_id").to_pylist()[1:]])
    (batch,) = (batch for batch in stored_batches(InMemory(views)) if len(batch))
    assert batch.column("label").to_pylist() == ["signal"]


def test_a_model_on_payload_is_refused_where_no_flow_has_any(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    model = load_model(tiny_model(tmp_path / "tiny"))
    whole = flow_batch(["signal", "zoom"])
    bare = whole.with_columns(
        segment_bytes=[[b""] * len(each) for each in whole.column("segment_bytes").to_pylist()]
    )
    assert sum(map(len, stored_batches(InMemory(bare), model))) == 2  # reads no payload
    model.info["inputs"] = "image"
    with pytest.raises(ModelError, match=r"reads payload bytes, and the flows of here have none"):
        list(stored_batches(InMemory(bare), model))
    both = InMemory(FlowBatch.concat([bare, whole]))
    labels = [
        label for each in stored_batches(both, model) for label in each.column("label").to_pylist()
    ]
    assert labels == ["signal", "zoom", "signal", "zoom"]
