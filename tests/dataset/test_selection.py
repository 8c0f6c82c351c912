import numpy as np
import pytest

from apptell.dataset import Dataset, DatasetWriter, Selection
from apptell.dataset import selection as module
from apptell.encoding import images
from apptell.testing import flow_batch

LABELS = ["signal", "zoom", "wechat"] * 7


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """21 flows in shards of 8."""
    monkeypatch.setattr("apptell.dataset.writer.SHARD_FLOWS", 8)
    monkeypatch.setattr("apptell.dataset.writer.ROW_GROUP_FLOWS", 4)
    flows = flow_batch(LABELS)
    with DatasetWriter(tmp_path / "flows") as writer:
        for start in range(0, len(flows), 4):
            writer.write(flows.take(np.arange(start, min(start + 4, len(flows)))))
        writer.commit()
    return Dataset.open(tmp_path / "flows")


@pytest.fixture(params=["disk", "memory"])
def whole(request, dataset, monkeypatch):
    monkeypatch.setattr(module, "_BATCH_FLOWS", 5)
    return Selection.of(dataset if request.param == "disk" else dataset.read())


def ids(flows):
    return flows.column("connection_id").to_pylist()


def test_payload_is_not_in_memory_and_comes_in_batches(dataset, monkeypatch):
    monkeypatch.setattr(module, "_BATCH_FLOWS", 5)
    whole = Selection.of(dataset)
    assert "segment_bytes" not in whole.flows.columns
    sizes = [len(batch) for batch in whole.batches()]
    assert sum(sizes) == 21
    assert max(sizes) <= 5


def test_what_is_gathered_is_what_all_at_once_would_give(whole, dataset):
    every = dataset.read()
    np.testing.assert_array_equal(whole.gather(images), images(every))
    rows = np.array([0, 3, 9, 20])
    np.testing.assert_array_equal(whole.take(rows).gather(images), images(every.take(rows)))


def test_a_choice_of_a_choice_counts_from_the_first(whole, dataset):
    labels = np.array(whole.flows.column("label").to_pylist())
    zoom = whole.filter(labels == "zoom").take(np.array([1, 4, 6]))
    expected = ids(dataset.read().take([4, 13, 19]))
    assert ids(zoom.flows) == expected
    assert [one for batch in zoom.batches() for one in ids(batch)] == expected
    assert set(zoom.flows.column("label").to_pylist()) == {"zoom"}


def test_a_few_flows_are_read_in_the_order_asked_for(whole, dataset):
    some = whole.take(np.arange(2, 20))
    assert ids(some.read([9, 0, 9])) == ids(dataset.read().take([11, 2, 11]))
    assert len(some.read([])) == 0


def test_a_selection_is_shown_in_a_line(whole):
    assert repr(whole) == f"<Selection of {len(whole)} flows>"


def test_nothing_chosen_gives_nothing(whole):
    none = whole.filter(np.zeros(21, dtype=bool))
    assert len(none) == 0
    assert none.gather(images).shape == (0, 87, 87)


def test_selections_are_joined_one_behind_the_other(whole, dataset):
    tail = whole.take(np.array([19, 20]))
    joined = Selection.join([tail, whole]).take(np.array([1, 2, 5]))
    assert ids(joined.flows) == ids(dataset.read().take([20, 0, 3]))
    assert [one for batch in joined.batches() for one in ids(batch)] == ids(joined.flows)


def test_shards_without_a_wanted_flow_are_not_read(dataset):
    first = dataset.path / dataset.info["shards"][0]["file"]
    first.write_bytes(b"x" * first.stat().st_size)
    rows = np.array([9, 20])
    assert sum(len(batch) for batch in dataset.batches(rows=rows)) == 2
