import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import CompletedProcess

import pyarrow.parquet as pq
import pytest

from apptell.flows.schema import CORE, SEGMENTS
from apptell.testing import START_NS, app_capture, pcap_bytes, tcp_frame, udp_frame, write_pcap

from .conftest import Run

TIMES = {"start_ns": "time", "end_ns": "end_time", "decided_ns": "decided_time"}


def test_each_flow_is_a_record_without_payload(run: Run, capture: Path) -> None:
    done = run("flows", capture)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 8
    assert {TIMES.get(name, name) for name in CORE} <= set(rows[0])
    assert "segment_bytes" not in rows[0]
    assert rows[0]["packets_to_server"] + rows[0]["packets_to_client"] == 12
    assert "8 flows of 96 packets" in done.stderr


def test_payload_leaves_only_when_asked_for(run: Run, capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "flows.parquet"
    done = run("flows", capture, "-o", path, "--columns", "core,segments")
    assert done.returncode == 0, done.stderr
    names = [TIMES.get(name, name) for name in (*CORE, *SEGMENTS)]
    assert pq.read_schema(path).names == names
    assert pq.read_table(path).num_rows == 8


def test_an_unknown_column_group_is_wrong_usage(run: Run, capture: Path) -> None:
    done = run("flows", capture, "--columns", "core,colour")
    assert done.returncode == 2
    assert "unknown column group 'colour'; available: core, " in done.stderr


def test_a_capture_that_is_still_written_gives_its_flows_as_they_end(tmp_path: Path) -> None:
    """Two connections, silence, then another: the first two are printed while the file still grows."""
    early = app_capture(["signal"], 2)
    late = [(time_ns + 300 * 10**9, frame) for time_ns, frame in app_capture(["zoom"], 1)]
    path = write_pcap(tmp_path / "growing.pcap", early)
    code = (  # a shell's background jobs ignore the keyboard, and so would their children
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from apptell.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "flows", path, "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        time.sleep(1)
        with path.open("ab", buffering=0) as file:
            for packet in late:
                file.write(pcap_bytes([packet])[24:])
                time.sleep(0.3)
            first = [json.loads(process.stdout.readline()) for _ in range(2)]
            assert [row["end_reason"] for row in first] == ["closed", "closed"]
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read().splitlines()
        assert len(rest) == 1
    assert process.returncode == 0


def test_a_capture_of_udp_alone_says_how_to_read_it(run: Run, tmp_path: Path) -> None:
    phone, server = ("10.0.0.2", 40000), ("192.0.2.7", 443)
    packets = [(START_NS + i, udp_frame(phone, server, b"hello")) for i in range(3)]
    path = write_pcap(tmp_path / "udp.pcap", packets)
    done = run("flows", path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "3 packets belong to a transport protocol that was not read; --transport tcp,udp reads both.",
        "apptell: udp.pcap: no flow among 3 packets",
    ]
    assert "--transport tcp,udp" in run("inspect", path, "--transport", "tcp").stderr
    assert run("flows", path, "--transport", "tcp,udp").returncode == 0


def test_packets_of_the_other_transport_are_told_from_those_of_no_flow(
    run: Run, tmp_path: Path
) -> None:
    phone, server = ("10.0.0.2", 40000), ("192.0.2.7", 443)
    packets = [
        (START_NS, tcp_frame(phone, server, b"hello")),
        (START_NS + 1, udp_frame(phone, server, b"hello")),
        (START_NS + 2, b"no packet"),
    ]
    path = write_pcap(tmp_path / "mixed.pcap", packets)
    assert run("flows", path).stderr.splitlines()[-1] == (
        "1 flows of 1 packets; 1 other packets are UDP (--transport tcp,udp reads both); "
        "of the 3 packets, 1 are not part of a flow (apptell inspect shows why)."
    )
    assert "1 other packets are TCP" in run("flows", path, "--transport", "udp").stderr
    assert run("flows", path, "--transport", "tcp,udp").stderr.splitlines()[-1] == (
        "2 flows of 2 packets; of the 3 packets, 1 are not part of a flow (apptell inspect shows why)."
    )


def test_fields_have_the_names_and_types_that_verdicts_have(run: Run, capture: Path) -> None:
    (flow, *_) = [json.loads(line) for line in run("flows", capture).stdout.splitlines()]
    (verdict, *_) = [json.loads(line) for line in run("identify", capture).stdout.splitlines()]
    shared = flow.keys() & verdict.keys()
    assert {"time", "end_time", "protocol", "community_id", "server_name"} <= shared
    assert {name: flow[name] for name in shared} == {name: verdict[name] for name in shared}


@pytest.mark.parametrize("verb", ["flows", "identify"])
def test_the_number_of_jobs_changes_nothing_that_is_written(
    run: Run, tmp_path: Path, verb: str
) -> None:
    path = write_pcap(tmp_path / "cut.pcap", app_capture(["signal", "zoom"], 30))
    path.write_bytes(path.read_bytes()[:-5])
    words = ["--evidence", "all"] if verb == "identify" else []
    one, *others = (run(verb, path, *words, "--jobs", jobs) for jobs in (1, 2, 3))
    assert one.returncode == 1
    assert "cut.pcap: cut short" in one.stderr
    assert len(one.stdout.splitlines()) >= 60
    for done in others:
        assert (done.returncode, done.stdout) == (1, one.stdout)
        assert _said(done) == _said(one)


def _said(done: CompletedProcess[str]) -> list[str]:
    """What a command said, whether or not it was the first of its kind here and had to compile."""
    return [line for line in done.stderr.splitlines() if "compiling" not in line]
