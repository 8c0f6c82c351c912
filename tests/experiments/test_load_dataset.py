"""A dataset in the forms that other libraries take: the same flows in each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import apptell
from apptell.cli.dataset_export import export_dataset
from apptell.encoding import structure
from apptell.errors import UsageError
from apptell.testing import START_NS, app_capture, write_pcap

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> apptell.Dataset:
    folder = tmp_path_factory.mktemp("captures")
    for i, place in enumerate(("home", "cafe")):
        (folder / place).mkdir()
        for j, app in enumerate(("signal", "zoom")):
            start_ns = START_NS + i * 10**13 + j * 10**12
            packets = app_capture([app], 3, seed=100 * i, start_ns=start_ns)
            write_pcap(folder / place / f"{app}.pcap", packets)
    return apptell.Dataset.build(folder, tmp_path_factory.mktemp("data") / "dataset")


def test_tables_have_the_flows_and_their_groups(data: apptell.Dataset) -> None:
    table = apptell.load_dataset(data, "arrow")
    assert table.num_rows == len(data) == 12
    assert set(table.column("app").to_pylist()) == {"signal", "zoom"}
    assert len(set(table.column("flow_id").to_pylist())) == 12
    assert "group_source" in table.schema.names
    assert "segment_bytes" not in table.schema.names
    whole = apptell.load_dataset(data, "arrow", groups=("core", "segments", "labels"))
    assert "segment_bytes" in whole.schema.names


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_have_the_same_columns(data: apptell.Dataset, library: Any) -> None:
    pytest.importorskip(library)
    table = apptell.load_dataset(data.path, library)
    assert type(table).__module__.startswith(library)
    expected = apptell.load_dataset(data, "arrow")
    assert list(table.columns) == expected.schema.names
    assert list(table["server_port"]) == expected.column("server_port").to_pylist()
    assert list(table["app"]) == expected.column("app").to_pylist()


def test_arrays_are_inputs_labels_and_sources(data: apptell.Dataset) -> None:
    found = apptell.load_dataset(data, "numpy")
    np.testing.assert_array_equal(found.inputs, structure(data.read()))
    truth = data.read().column("label").to_pylist()
    assert [found.apps[label] for label in found.labels] == truth
    assert len(set(found.sources)) == 2


def test_a_side_of_a_split_is_loaded_alone(data: apptell.Dataset) -> None:
    learned, tested = data.split("source")
    sides = [apptell.load_dataset(side, "numpy", inputs="lengths") for side in (learned, tested)]
    assert len(sides[0].labels) + len(sides[1].labels) == 12
    assert not set(sides[0].sources) & set(sides[1].sources)


def test_datasets_of_pytorch_feed_a_loader(data: apptell.Dataset) -> None:
    torch = pytest.importorskip("torch")
    expected = apptell.load_dataset(data, "numpy", inputs="statistics")
    stored = apptell.load_dataset(data, "torch", inputs="statistics")
    stream = apptell.load_dataset(data, "torch-stream", inputs="statistics")
    assert len(stored) == len(stream) == 12
    assert stored.apps == stream.apps == ["signal", "zoom"]
    for loaded in (stored, stream):
        batches = list(torch.utils.data.DataLoader(loaded, batch_size=5))
        np.testing.assert_array_equal(torch.cat([x for x, _ in batches]).numpy(), expected.inputs)
        np.testing.assert_array_equal(torch.cat([y for _, y in batches]).numpy(), expected.labels)


def test_workers_of_a_stream_share_its_batches(
    data: apptell.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from types import SimpleNamespace

    from apptell.experiments import torch_flows

    stream = apptell.load_dataset(data, "torch-stream", inputs="lengths")
    parts = list(stream._flows.batches())
    monkeypatch.setattr(stream._flows, "batches", lambda: iter([parts[0][:7], parts[0][7:]]))
    counts = []
    for worker in (0, 1, 2):
        info = SimpleNamespace(id=worker, num_workers=3)
        monkeypatch.setattr(torch_flows, "get_worker_info", lambda info=info: info)
        counts.append(len(list(stream)))
    assert counts == [7, 5, 0]


def test_tokens_are_a_tensor_that_pytorch_computes_with(data: apptell.Dataset) -> None:
    torch = pytest.importorskip("torch")
    x, label = apptell.load_dataset(data, "torch")[0]
    assert (x.dtype, label) == (torch.int32, 0)


def test_a_dataset_of_hugging_face(data: apptell.Dataset) -> None:
    pytest.importorskip("datasets")
    found = apptell.load_dataset(data, "hf", inputs="lengths")
    assert len(found) == 12
    assert len(found[0]["inputs"]) == 10
    assert {found[i]["app"] for i in range(12)} == {"signal", "zoom"}


def test_other_forms_are_refused(data: apptell.Dataset) -> None:
    with pytest.raises(
        UsageError, match=r"^a dataset cannot be loaded as 'excel'; available: arrow, pandas"
    ):
        apptell.load_dataset(data, "excel")  # type: ignore[arg-type]


def test_parquet_holds_ids_groups_and_tokens(data: apptell.Dataset, tmp_path: Path) -> None:
    assert export_dataset(data, tmp_path / "out", "parquet") == 12
    table = pq.read_table(tmp_path / "out" / "flows.parquet")
    tokens = np.array(table.column("inputs").to_pylist())
    np.testing.assert_array_equal(tokens, structure(data.read()))
    about = json.loads((tmp_path / "out" / "flows.json").read_text())
    named = [about["apps"][target] for target in table.column("target").to_pylist()]
    assert named == table.column("app").to_pylist()
    assert {"flow_id", "group_source"} <= set(table.schema.names)


def test_tensors_are_read_without_running_code(data: apptell.Dataset, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    export_dataset(data, tmp_path / "out", "torch")
    found = torch.load(tmp_path / "out" / "flows.pt", weights_only=True)
    np.testing.assert_array_equal(found["inputs"].numpy(), structure(data.read()))
    assert len(json.loads((tmp_path / "out" / "flows.json").read_text())["flow_ids"]) == 12


def test_a_folder_of_hugging_face_is_read_back(data: apptell.Dataset, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export_dataset(data, tmp_path / "out", "hf")
    assert len(datasets.load_from_disk(str(tmp_path / "out"))) == 12
