import pytest

from apptell.dataset import Dataset, DatasetWriter
from apptell.dataset.change import merge, sample, validate
from apptell.dataset.services import move_shared, service_table, system_as
from apptell.errors import DatasetError, UsageError
from apptell.flows.schema import FlowBatch

ROWS = [
    ("org.chat", "chat.example.org"),
    ("org.chat", "a.tracker.com"),
    ("mailer/send", "b.tracker.com"),
    ("mailer", "api.mailer.net"),
    ("viewer", "tracker.com"),
    ("viewer", "mailer.net"),
    ("viewer", None),
    ("system", "tracker.com"),
    ("other", "tracker.com"),
]


def made(path, rows=ROWS, start=0, view_of=None):
    with DatasetWriter(path) as writer:
        writer.write(
            FlowBatch.from_columns(
                {
                    "connection_id": view_of or list(range(start, start + len(rows))),
                    "part_of": view_of or [None] * len(rows),
                    "part": [0] * len(rows),
                    "start_ns": list(range(len(rows))),
                    "server_name": [name for _, name in rows],
                    "server_address": ["192.0.2.7"] * len(rows),
                    "payload_packets_to_server": [1] * len(rows),
                    "payload_packets_to_client": [1] * len(rows),
                    "label": [label for label, _ in rows],
                    "label_from": ["table"] * len(rows),
                }
            )
        )
        writer.end_source(
            {"name": "x", "sha256": f"{start:064x}", "labels": "table", "dropped": {"why": 1}}
        )
        return writer.commit()


def test_servers_shared_services_and_contradictions_are_listed(tmp_path):
    rows = service_table(made(tmp_path / "d")).to_pylist()
    by_name = {(row["app"], row["server"]): row for row in rows}
    assert by_name["mailer", "b.tracker.com"]["service"] == "tracker.com"
    assert {row["service"] for row in rows if row["is_shared"]} == {"tracker.com"}
    assert by_name["viewer", "tracker.com"]["apps"] == 3  # system and other are no apps
    assert by_name["viewer", "mailer.net"]["contradicts"] == "mailer"
    assert by_name["mailer", "api.mailer.net"]["contradicts"] is None
    assert by_name["viewer", "192.0.2.7"]["flows"] == 1


def test_flows_to_shared_services_become_other_or_go(tmp_path):
    data = made(tmp_path / "d")
    moved = move_shared(data, tmp_path / "o", "other")
    assert moved.info["apps"] == {"mailer": 1, "org.chat": 1, "other": 4, "system": 1, "viewer": 2}
    assert "tracker.com" in moved.info["done"][0]
    assert len(move_shared(data, tmp_path / "p", "drop")) == 5
    assert len(move_shared(data, tmp_path / "q", "keep")) == 9
    assert len(Dataset.open(tmp_path / "d")) == 9
    move_shared(data, tmp_path / "d", "drop")  # onto itself
    assert len(Dataset.open(tmp_path / "d").read()) == 5
    with pytest.raises(UsageError, match="choose keep, other or drop"):
        move_shared(data, tmp_path / "q", "sell")


def with_views(path, n=9):
    """A dataset, and two late views of each flow without the server's name."""
    twice = [at for at in range(n) for _ in range(2)]
    rows = [ROWS[at % len(ROWS)] for at in range(n)]
    views = made(path / "v", [(rows[at][0], None) for at in twice], view_of=twice)
    with DatasetWriter(path / "both") as writer:
        for each in (made(path / "f", rows), views):
            writer.write(each.read())
        writer.end_source({"name": "x", "sha256": f"{7:064x}", "labels": "table", "dropped": {}})
        return writer.commit()


def test_late_views_are_not_counted_and_follow_their_flows_to_other(tmp_path):
    data = with_views(tmp_path)
    assert data.info["late_views"] == 18
    assert sum(row["flows"] for row in service_table(data).to_pylist()) == 9
    moved = move_shared(data, tmp_path / "o", "other")
    assert moved.info["apps"] == {"mailer": 3, "org.chat": 3, "other": 12, "system": 3, "viewer": 6}
    left = move_shared(data, tmp_path / "p", "drop").read()
    assert sorted(left.column("connection_id").to_pylist()) == [
        at for at in (0, 3, 5, 6, 7) for _ in range(3)
    ]


def test_a_sample_counts_flows_and_takes_their_late_views_along(tmp_path):
    small = sample(with_views(tmp_path, 90), tmp_path / "s", 5, seed=3).read()
    views = [part for part in small.column("part_of").to_pylist() if part is not None]
    flows = small.filter(small.column("part_of").is_null().to_numpy(zero_copy_only=False))
    labels = flows.column("label").to_pylist()
    assert {labels.count(label) for label in labels} == {5}
    assert sorted(views) == sorted(2 * flows.column("connection_id").to_pylist())


def test_system_traffic_becomes_other_or_goes(tmp_path):
    flows = made(tmp_path / "d").read()
    assert system_as(flows, "other").column("label").to_pylist()[-2:] == ["other", "other"]
    assert len(system_as(flows, "drop")) == 8


def test_merging_takes_a_flow_once_and_keeps_the_record(tmp_path):
    one, two = made(tmp_path / "a"), made(tmp_path / "b", ROWS[:3], start=100)
    both = merge([one, two], tmp_path / "m")
    assert len(both.read()) == 12
    assert len(both.info["sources"]) == 2
    assert both.info["dropped"] == {"why": 2}
    again = merge([both, two], tmp_path / "n")
    assert len(again.read()) == 12
    assert len(again.info["sources"]) == 2
    with pytest.raises(DatasetError, match="at least two datasets"):
        merge([one], tmp_path / "x")


def test_a_sample_has_as_many_of_each_label_as_asked_and_is_repeatable(tmp_path):
    data = made(tmp_path / "d", ROWS * 20)
    small = sample(data, tmp_path / "s", 7, seed=3)
    assert set(small.info["apps"].values()) == {7}
    assert sample(data, tmp_path / "t", 7, seed=3).hash == small.hash
    assert sample(data, tmp_path / "u", 7, seed=4).hash != small.hash
    assert "seed 3" in small.info["done"][-1]


def test_a_whole_dataset_is_valid_and_a_spoiled_one_is_not(tmp_path):
    data = made(tmp_path / "d")
    assert validate(data) == []
    shard = next((tmp_path / "d").glob("*.parquet"))
    good = shard.read_bytes()
    shard.write_bytes(good[:50] + bytes([good[50] ^ 1]) + good[51:])
    assert "SHA-256 differs" in validate(data)[0]
    shard.unlink()
    assert "missing" in validate(data)[0]
    shard.write_bytes(good)
    data.info["n_flows"] = 7
    data.info["apps"] = {}
    assert len(validate(data)) == 2
