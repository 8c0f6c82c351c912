import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.dataset import folds, save_split, split
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


@pytest.mark.parametrize("protocol", ALL)
def test_every_flow_is_on_one_side_and_cut_connections_stay_together(protocol):
    table = flows()
    part = split(table, protocol, seed=3)
    assert sorted([*part.train, *part.test]) == list(range(400))
    train, test = sides(table, part)
    assert not train & test
    assert part.optimistic == (protocol == "paper")


@pytest.mark.parametrize("protocol", ["paper", "source", "domain", "group:site"])
def test_folds_test_every_flow_once(protocol):
    table = flows()
    parts = folds(table, protocol, 5, seed=1)
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
@settings(max_examples=40, deadline=None)
def test_one_seed_gives_one_split(seed, protocol):
    table = flows(90, 9)
    first, second = (split(table, protocol, seed=seed) for _ in range(2))
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
    with pytest.raises(UsageError, match="no protocol 'luck'"):
        split(flows(), "luck")
    with pytest.raises(UsageError, match="must lie between"):
        split(flows(), "paper", test_share=1.0)
    with pytest.raises(DatasetError, match="no flows to split"):
        split(flows(0), "paper")


def test_fewer_groups_than_folds_give_as_many_folds_as_groups():
    assert len(folds(flows(), "capture-point", 5)) == 3


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
