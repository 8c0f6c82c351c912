import json
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from apptell.dataset import Dataset, DatasetWriter, build
from apptell.dataset.reading import TOO_SHORT
from apptell.errors import CaptureError, DatasetError
from apptell.flows.schema import SCHEMA, FlowBatch


def flows(n, app="chat", *, payload=3, start=0, source="home"):
    rows = range(start, start + n)
    return FlowBatch.from_columns(
        {
            "capture": [f"{source}.pcap"] * n,
            "connection_id": list(rows),
            "part": [0] * n,
            "client_by": ["handshake"] * n,
            "start_ns": list(rows),
            "payload_packets_to_server": [payload] * n,
            "payload_packets_to_client": [0] * n,
            "segment_bytes": [[b"x" * 20, b"\x00\xff"]] * n,
            "segment_length": [[20, 2]] * n,
            "segment_to_server": [[True, False]] * n,
            "segment_time_ns": [[1, 2]] * n,
            "sequence_length": [[20, -2]] * n,
            "sequence_gap_us": [[0, 1]] * n,
            "label": [app] * n,
            "label_from": ["folders"] * n,
            "groups": [[("source", source)]] * n,
        }
    )


class Source:
    kind = "folders"

    def __init__(self, name, batches, files=(), damage=None):
        self.name, self.files, self.dropped, self.facts = name, list(files), Counter(), {}
        self._batches, self._damage = batches, damage

    def flows(self):
        yield from self._batches
        if self._damage:
            raise CaptureError(self._damage)


def capture(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def test_what_is_written_is_read_back_in_order_and_in_the_schema(tmp_path):
    first, second = flows(5), flows(3, "mail", start=5)
    report = build([Source("a", [first]), Source("b", [second])], tmp_path / "d")
    data = Dataset.open(tmp_path / "d")
    assert len(data) == 8
    assert report.n_added == 8
    assert data.apps == ["chat", "mail"]
    whole = data.read(("core", "segments", "names", "labels", "audit"))
    assert whole.to_arrow().schema.equals(SCHEMA)
    assert whole.to_arrow().to_pylist() == FlowBatch.concat([first, second]).to_arrow().to_pylist()
    assert [len(batch) for batch in data.batches(batch_flows=3)] == [3, 3, 2]
    assert data.info["groups"] == {"source": {"home": 8}}
    assert "| chat | 5 |" in (tmp_path / "d" / "README.md").read_text()


def test_flows_with_fewer_than_two_payload_packets_are_dropped_and_counted(tmp_path):
    report = build([Source("a", [flows(4), flows(2, payload=1)])], tmp_path / "d")
    assert len(report.dataset) == 4
    assert report.dataset.info["dropped"] == {TOO_SHORT: 2}


def test_adding_the_same_capture_twice_changes_not_a_byte(tmp_path):
    file = capture(tmp_path, "a.pcap", b"bytes")
    build([Source("a", [flows(4)], [file])], tmp_path / "d")
    before = {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()}
    report = build([Source("renamed", [flows(4)], [file])], tmp_path / "d")
    assert report.skipped == ["renamed"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()} == before


def test_appending_keeps_what_was_there_and_counts_both(tmp_path):
    build([Source("a", [flows(4)], [capture(tmp_path, "a", b"1")])], tmp_path / "d")
    old = Dataset.open(tmp_path / "d").hash
    more = [Source("b", [flows(2, "mail", source="work")], [capture(tmp_path, "b", b"2")])]
    data = build(more, tmp_path / "d").dataset
    assert data.info["apps"] == {"chat": 4, "mail": 2}
    assert data.info["groups"] == {"source": {"home": 4, "work": 2}}
    assert data.hash != old
    assert len(data.read()) == 6


def test_a_damaged_capture_gives_what_precedes_the_damage_and_is_named(tmp_path):
    report = build([Source("a", [flows(4)], damage="a.pcap: cut at byte 9")], tmp_path / "d")
    assert report.damaged == ["a.pcap: cut at byte 9"]
    assert len(report.dataset) == 4
    assert report.dataset.info["sources"][0]["damage"] == "a.pcap: cut at byte 9"


def test_a_flow_without_a_label_is_refused_and_nothing_changes(tmp_path):
    build([Source("a", [flows(4)])], tmp_path / "d")
    with pytest.raises(DatasetError, match="1 flows without a label"):
        build([Source("b", [flows(1, None)])], tmp_path / "d")
    assert len(Dataset.open(tmp_path / "d")) == 4


def test_an_error_in_the_middle_leaves_the_old_dataset_alone(tmp_path):
    build([Source("a", [flows(4)])], tmp_path / "d")
    before = sorted(file.name for file in (tmp_path / "d").iterdir())
    good_then_bad = [flows(5000), flows(1, None)]
    with pytest.raises(DatasetError, match="without a label"):
        build([Source("b", good_then_bad)], tmp_path / "d")
    assert len(Dataset.open(tmp_path / "d").read()) == 4
    assert sorted(file.name for file in (tmp_path / "d").iterdir()) == before


def test_an_error_in_a_first_build_leaves_no_folder(tmp_path):
    with pytest.raises(DatasetError, match="without a label"):
        build([Source("b", [flows(1, None)])], tmp_path / "d")
    assert not (tmp_path / "d").exists()


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fsync", "replace", "unlink"])
def test_a_build_killed_at_any_call_leaves_the_old_dataset_or_the_new_one(tmp_path, call):
    """Kills a process at each fsync, replace and unlink in turn, until one survives."""
    build([Source("a", [flows(4)])], tmp_path / "d")
    program = textwrap.dedent("""
        import os, pathlib, signal, sys
        sys.path.insert(0, sys.argv[1])
        from test_store import Source, flows
        from apptell.dataset import build
        owner = os if sys.argv[3] == "fsync" else pathlib.Path
        real = getattr(owner, sys.argv[3])
        def deadly(*args):
            global left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args)
        setattr(owner, sys.argv[3], deadly)
        for line in sys.stdin:
            left = int(line)
            child = os.fork()
            if child == 0:
                build([Source("b", [flows(3)])], sys.argv[2], replace=True)
                os._exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program, Path(__file__).parent, tmp_path / "d", call],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as forks:
        for moment in range(20):
            print(moment, file=forks.stdin, flush=True)
            code = int(forks.stdout.readline())
            assert code in (0, -signal.SIGKILL)
            assert len(Dataset.open(tmp_path / "d").read()) in ((3,) if code == 0 else (3, 4))
            if code == 0:
                assert moment > 0, "nothing was killed"
                return
    pytest.fail("never survived")


def test_replacing_a_dataset_leaves_no_byte_of_the_old_one(tmp_path):
    build([Source("a", [flows(4)])], tmp_path / "d")
    build([Source("b", [flows(3, "mail")])], tmp_path / "d", replace=True)
    assert len(list((tmp_path / "d").glob("flows-*"))) == 1
    assert Dataset.open(tmp_path / "d").apps == ["mail"]


def test_two_builds_cannot_write_one_folder(tmp_path):
    with (
        DatasetWriter(tmp_path / "d"),
        pytest.raises(DatasetError, match="another build"),
        DatasetWriter(tmp_path / "d"),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_said_in_one_line():
    with pytest.raises(DatasetError, match="/proc/x: cannot be written"):
        build([], "/proc/x")


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DatasetError, match=r"not a dataset \(thesis.tex\)"):
        build([], tmp_path)


def spoil_info(folder, **changes):
    file = folder / "dataset.json"
    info = json.loads(file.read_text())
    file.write_text(json.dumps({**info, **changes}))


def test_a_missing_spoiled_or_foreign_dataset_is_said_in_one_line(tmp_path):
    with pytest.raises(DatasetError, match="no such dataset"):
        Dataset.open(tmp_path / "none")
    with pytest.raises(DatasetError, match="not a dataset"):
        Dataset.open(tmp_path)
    build([Source("a", [flows(4)])], tmp_path / "d")
    shard = next((tmp_path / "d").glob("*.parquet"))
    good = shard.read_bytes()
    shard.write_bytes(good[:-1])
    with pytest.raises(DatasetError, match="bytes, but it was written with"):
        Dataset.open(tmp_path / "d")
    shard.write_bytes(b"\0" * len(good))
    with pytest.raises(DatasetError, match="damaged shard"):
        Dataset.open(tmp_path / "d").read()
    shard.unlink()
    with pytest.raises(DatasetError, match="is missing"):
        Dataset.open(tmp_path / "d")
    spoil_info(tmp_path / "d", flow_schema=99)
    with pytest.raises(DatasetError, match="flow_schema is 99"):
        Dataset.open(tmp_path / "d")
    (tmp_path / "d" / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match="not valid JSON"):
        Dataset.open(tmp_path / "d")


def test_flows_with_many_segments_and_without_places_are_read_back(tmp_path):
    """A hello may be cut into more segments than other flows keep; earlier datasets have no places."""
    n = 300
    many = FlowBatch.from_columns(
        {name: flows(2).column(name) for name in SCHEMA.names if not name.startswith("segment_")}
        | {
            "segment_length": [[1] * n] * 2,
            "segment_to_server": [[True] * n] * 2,
            "segment_time_ns": [[5] * n] * 2,
            "segment_bytes": [[b"x"] * n] * 2,
            "segment_offset": [list(range(n))[::-1], None],
        }
    )
    build([Source("home", [many])], tmp_path / "d")
    (read,) = Dataset.open(tmp_path / "d").batches(("segments",))
    assert read.segments().offset.tolist() == [*range(n)[::-1], *range(n)]


def test_only_the_groups_asked_for_are_read(tmp_path):
    data = build([Source("a", [flows(4)])], tmp_path / "d").dataset
    assert next(data.batches(("labels",))).columns[0] == "label"
    with pytest.raises(DatasetError, match="no column group 'x'"):
        list(data.batches(("x",)))
