import sys
import textwrap

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.dataset import folds, method_of, save_split, split, split_names
from apptell.errors import DatasetError, UsageError
from apptell.flows.schema import FlowBatch
from apptell.testing import flow_batch


def flows(n=400, n_sources=20, seed=0, cut=3):
    noise = np.random.default_rng(seed)
    connection = np.arange(n) // cut
    source = noise.integers(0, n_sources, n // cut + 1)[connection]
    return FlowBatch.from_columns(
        {
            "capture": [f"s{s}.pcap" for s in source],
            "connection_id": connection.astype(np.uint64) + 2**63,
            "part": (np.arange(n) % cut).astype(np.int32),
            "start_ns": noise.permutation(n // cut + 1)[connection] * 10_800_000_000_000
            + np.arange(n) % cut * 100_000_000_000,
            "server_name": [f"w{s}.example{s % 9}.co.uk" for s in source],
            "label": [f"app{a}/use" for a in noise.integers(0, 4, n // cut + 1)[connection]],
            "groups": [
                [("source", f"s{s}"), ("capture_point", f"p{s % 3}"), ("site", f"x{s % 5}")]
                for s in source
            ],
        }
    )


def sides(flows, part):
    column = np.array(flows.column("connection_id").to_pylist())
    return set(column[part.train]), set(column[part.test])


ALL = ["paper", "source", "day", "time", "capture-point", "domain", "group:site"]


@pytest.mark.parametrize("method", ALL)
def test_every_flow_is_on_one_side_and_cut_connections_stay_together(method):
    table = flows()
    part = split(table, method, seed=3)
    assert sorted([*part.train, *part.test]) == list(range(400))
    train, test = sides(table, part)
    assert not train & test
    assert part.optimistic == (method == "paper")


@pytest.mark.parametrize("method", ["paper", "source", "domain", "group:site"])
def test_folds_test_every_flow_once(method):
    table = flows()
    parts = folds(table, method, 5, seed=1)
    assert len(parts) == 5
    assert sorted(np.concatenate([part.test for part in parts])) == list(range(400))
    for part in parts:
        train, test = sides(table, part)
        assert not train & test


def test_sources_are_never_on_both_sides_and_the_share_is_near():
    table = flows(n_sources=40)
    part = split(table, "source", test_share=0.2)
    source = np.array([dict(row)["source"] for row in table.column("groups").to_pylist()])
    assert not set(source[part.train]) & set(source[part.test])
    assert 0.12 < len(part.test) / 400 < 0.28


def test_time_trains_on_the_past_alone():
    table = flows(cut=1)
    start = table.numpy("start_ns")
    part = split(table, "time")
    assert start[part.train].max() < start[part.test].min()
    parts = folds(table, "time", 4)
    assert len(parts) == 4
    for part in parts:
        assert start[part.train].max() < start[part.test].min()


@given(st.integers(0, 10_000), st.sampled_from(ALL))
@settings(max_examples=40)
def test_one_seed_gives_one_split(seed, method):
    table = flows(90, 9)
    first, second = (split(table, method, seed=seed) for _ in range(2))
    assert np.array_equal(first.test, second.test)


def test_a_saved_split_is_given_back_exactly_also_after_shuffling(tmp_path):
    table = flows()
    part = split(table, "source")
    save_split(part, table, tmp_path / "s.jsonl")
    again = split(table, tmp_path / "s.jsonl")
    assert np.array_equal(again.train, part.train)
    assert np.array_equal(again.test, part.test)
    order = np.random.default_rng(1).permutation(400)
    shuffled = split(table.take(order), str(tmp_path / "s.jsonl"))
    assert set(order[shuffled.test]) == set(part.test)


def test_a_split_file_of_another_dataset_or_spoiled_is_refused(tmp_path):
    table = flows()
    save_split(split(table, "paper"), table, tmp_path / "s.jsonl")
    with pytest.raises(DatasetError, match="the dataset has no flow"):
        split(flows(30), tmp_path / "s.jsonl")
    (tmp_path / "s.jsonl").write_text('{"connection_id": 1}\n')
    with pytest.raises(DatasetError, match="line 1 is not a line of a split"):
        split(table, tmp_path / "s.jsonl")
    with pytest.raises(DatasetError, match="cannot be read"):
        split(table, tmp_path / "none.jsonl")


def test_a_group_that_is_not_there_or_has_one_value_is_refused():
    with pytest.raises(
        DatasetError, match=r"no flow has the group 'device'.*capture_point, site, source"
    ):
        split(flows(), "device")
    with pytest.raises(DatasetError, match="at least two values"):
        split(flows(n_sources=1), "source")
    with pytest.raises(UsageError, match="unknown split 'luck'; available: paper, session"):
        split(flows(), "luck")
    with pytest.raises(UsageError, match="is not between"):
        split(flows(), "paper", test_share=1.0)
    with pytest.raises(DatasetError, match="no flows to split"):
        split(flows(0), "paper")


def test_fewer_groups_than_folds_give_as_many_folds_as_groups():
    assert len(folds(flows(), "capture-point", 5)) == 3


def test_none_learns_from_every_flow_and_has_no_folds():
    table = flows()
    part = split(table, "none")
    assert part.train.tolist() == list(range(400))
    assert not len(part.test)
    assert part.method == "none"
    with pytest.raises(UsageError, match="'none' leaves nothing to measure on"):
        folds(table, "none")


def test_a_date_divides_what_began_before_it_from_the_rest():
    table = flows(cut=1)
    start = table.numpy("start_ns")
    part = split(table, "time:1970-01-20")
    edge = 19 * 86_400 * 10**9
    assert (start[part.train] < edge).all()
    assert (start[part.test] >= edge).all()
    with pytest.raises(DatasetError, match="test side empty; every flow began before the date"):
        split(table, "time:2026-10-01")
    with pytest.raises(
        DatasetError, match="training side empty; every flow began on or after the date"
    ):
        split(table, "time:1969-01-01")
    for text in ("time:", "time:soon", "group", "paper:x", "session:"):
        with pytest.raises(UsageError, match="split"):
            split(table, text)


@pytest.mark.parametrize("method", ALL)
def test_later_views_of_a_connection_stay_on_its_side(method):
    """Rows that share a connection with others tell each other's app, whatever else they say."""
    table = flows()
    late = table.with_columns(
        part=np.arange(400, dtype=np.int32) + 1000,
        start_ns=table.numpy("start_ns") + 10**12,
        server_name=[None] * 400,
        groups=[None] * 200
        + [
            [(name, f"late-{value}") for name, value in row]
            for row in table.column("groups").to_pylist()[200:]
        ],
    )
    both = FlowBatch.concat([table, late])
    parts = [split(both, method, seed=1), *folds(both, method, 3, seed=1)]
    for part in parts:
        train, test = sides(both, part)
        assert not train & test


def test_flows_without_a_connection_id_are_units_of_their_own():
    table = flows(cut=1).with_columns(connection_id=pa.nulls(400, pa.uint64()))
    part = split(table, "paper")
    assert 0.15 < len(part.test) / 400 < 0.25


METHOD = """
    import numpy as np
    from apptell.dataset import SplitMethod


    class Parity(SplitMethod):
        name = "parity"

        def units(self, flows):
            return np.array([f"p{port % 2}" for port in flows.numpy("client_port")], dtype=object)


    class Careless(SplitMethod):
        name = "careless"

        def units(self, flows):
            return np.arange(len(flows)).astype(object)

        def split(self, flows, test_share, seed, level):
            return np.arange(0, len(flows), 2), np.arange(1, len(flows), 2)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution with split methods, as ``pip install`` would leave it."""
    about = tmp_path / "site" / "parity-1.0.dist-info"
    about.mkdir(parents=True)
    (tmp_path / "site" / "parity_split.py").write_text(textwrap.dedent(METHOD))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: parity\nVersion: 1.0\n")
    names = (
        "parity = parity_split:Parity\ncareless = parity_split:Careless\nbroken = parity_split:np\n"
    )
    (about / "entry_points.txt").write_text(f"[apptell.split_methods]\n{names}")
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield
    sys.modules.pop("parity_split", None)


def test_a_split_method_of_another_distribution_divides_flows_and_draws_intervals(installed):
    table = flows(cut=1).with_columns(client_port=np.arange(400).astype(np.uint16))
    assert "parity" in split_names()
    part = split(table, "parity", test_share=0.5)
    assert len(set(part.test % 2)) == 1
    assert len(folds(table, "parity", 5)) == 2
    groups = method_of("parity").interval_groups(table)
    assert set(groups) == set(table.column("capture").to_pylist())  # two values are too few


def test_a_method_that_parts_a_connection_is_refused(installed):
    with pytest.raises(DatasetError, match=r"'careless' has connection [0-9]+ on both sides"):
        split(flows(cut=3), "careless")
    with pytest.raises(UsageError, match=r"broken: .* not a subclass of SplitMethod"):
        split(flows(), "broken")


def test_seeds_divide_sources_of_unequal_size_in_different_ways():
    """Otherwise several seeds would be one."""
    labels = [f"app{i % 3}" for i in range(400)]
    source = np.minimum(np.sqrt(np.arange(400)).astype(int), 17)  # the later, the larger
    table = flow_batch(labels, groups=[{"source": f"s{i}"} for i in source])
    fold = np.zeros((4, 400), dtype=int)
    for seed in range(4):
        parts = folds(table, "source", 4, seed)
        for number, part in enumerate(parts):
            fold[seed, part.test] = number
            assert 40 < len(part.test) < 180  # evenness is not given up
    together = fold[:, :, None] == fold[:, None, :]
    for one in range(4):
        for other in range(one):
            assert (together[one] == together[other]).mean() < 0.9
