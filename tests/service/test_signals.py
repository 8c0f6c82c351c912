"""``apptell live`` as a process: what SIGHUP, SIGTERM and SIGKILL do to its records."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from apptell.models import write_model
from apptell.testing import app_capture, pcap_bytes, tiny_model

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
APPS = ["signal", "zoom"]
N = 40


@pytest.fixture
def packets():
    """80 flows, one after another."""
    return sorted(app_capture(APPS, N), key=lambda packet: packet[0])


def live(*words):
    command = [sys.executable, "-m", "apptell.cli", "live", "-", *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def records(path):
    """Every line, which must be whole."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(count, n, seconds=120.0):
    until = time.monotonic() + seconds
    while count() < n and time.monotonic() < until:
        time.sleep(0.05)
    return count()


def n_verdicts(path):
    return sum(record["event"] == "verdict" for record in records(path))


def test_sighup_loads_the_model_again_and_no_flow_is_lost(tmp_path, packets):
    model, out = tmp_path / "model", tmp_path / "apps.jsonl"
    tiny_model(model, APPS, seed=1)
    data = pcap_bytes(packets)
    half = 24 + sum(16 + len(frame) for _, frame in packets[: len(packets) // 2])
    process = live("-m", model, "--out", f"jsonl:{out}", "--threshold", "0")
    try:
        process.stdin.write(data[:half])
        process.stdin.flush()
        wait_for(lambda: n_verdicts(out), N - 2)
        tiny_model(model, APPS, seed=2)
        process.send_signal(signal.SIGHUP)
        while b"The model is now" not in (line := process.stderr.readline()):
            assert line, "ended"
        process.stdin.write(data[half:])
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    found = records(out)
    verdicts = [record for record in found if record["event"] == "verdict"]
    ends = {record["connection_id"]: record for record in found if record["event"] == "end"}
    assert len(verdicts) == len(ends) == 2 * N
    assert len({record["model"] for record in verdicts}) == 2
    for record in verdicts:
        assert ends[record["connection_id"]]["model"] == record["model"]


def test_sigterm_hands_out_what_is_open(tmp_path, packets):
    out, tables = tmp_path / "apps.jsonl", tmp_path / "p"
    process = live("--out", f"jsonl:{out}", "--out", f"parquet:{tables}")
    try:
        process.stdin.write(pcap_bytes(packets))
        process.stdin.flush()
        assert wait_for(lambda: n_verdicts(out), 2 * N) == 2 * N
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.communicate()
    assert len(records(out)) == 4 * N
    assert sum(pq.read_table(path).num_rows for path in tables.glob("*.parquet")) == 4 * N
    assert {record["end_reason"] for record in records(out)} == {None, "closed"}


def endless(folder):
    """A model that takes minutes, in many small steps: products of a matrix with itself."""
    onnx = pytest.importorskip("onnx")
    float32, helper = onnx.TensorProto.FLOAT, onnx.helper
    n, size = 3000, 512
    steps = [helper.make_node("MatMul", ["a", "a"], ["s0"])]
    steps += [helper.make_node("MatMul", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(n)]
    steps += [
        helper.make_node("ReduceMean", [f"s{n}"], ["nothing"], keepdims=0),
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=1),
        helper.make_node("Add", ["shares", "nothing"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        steps,
        "endless",
        [helper.make_tensor_value_info("x", float32, ["n", 37])],
        [helper.make_tensor_value_info("probabilities", float32, ["n", 2])],
        [
            helper.make_tensor("a", float32, [size, size], bytes(4 * size * size), raw=True),
            helper.make_tensor("w", float32, [37, 2], bytes(4 * 37 * 2), raw=True),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    from tests.models.tiny import info

    write_model(folder, model.SerializeToString(), info(apps=APPS), "", replace=True)
    return folder


def used_s(process):
    """Processor time of a process so far, s."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_sigterm_ends_a_sensor_whose_model_is_being_loaded_again(tmp_path, packets):
    model, out = tmp_path / "model", tmp_path / "apps.jsonl"
    tiny_model(model, APPS, seed=1)
    process = live("-m", model, "--out", f"jsonl:{out}")
    try:
        process.stdin.write(pcap_bytes(packets))
        process.stdin.flush()
        assert wait_for(lambda: n_verdicts(out), 2 * N) == 2 * N
        endless(model)
        before_s = used_s(process)
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: used_s(process) - before_s, 1.0)  # it is at work
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        said = process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    assert len(records(out)) == 4 * N
    assert b"reloaded" not in said  # it did not wait for the end of the run
    assert b"terminate" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_sigterm_ends_a_sensor_that_is_still_loading_its_model(tmp_path):
    process = live("-m", endless(tmp_path / "model"), "--out", f"jsonl:{tmp_path / 'apps.jsonl'}")
    try:
        wait_for(lambda: used_s(process), 4.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
        assert b"took longer" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    assert not (tmp_path / "apps.jsonl").exists()


def test_flows_that_are_open_at_sigterm_end_as_shutdown_and_not_as_the_capture_s_end(
    tmp_path, packets
):
    out = tmp_path / "apps.jsonl"
    process = live("--out", f"jsonl:{out}")
    try:
        # without the three packets that close each flow
        opened = [packet for packet in packets if packet[1][14 + 20 + 13] & 0x01 == 0]
        process.stdin.write(pcap_bytes(opened))
        process.stdin.flush()
        assert wait_for(lambda: n_verdicts(out), 2 * N) == 2 * N
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.communicate()
    ends = [record["end_reason"] for record in records(out) if record["event"] == "end"]
    assert "shutdown" in ends
    assert set(ends) <= {"shutdown", "idle"}


def test_what_was_written_before_a_kill_can_be_read_and_continued(tmp_path, packets):
    out, tables = tmp_path / "apps.jsonl", tmp_path / "p"
    counts = []
    for end in (signal.SIGKILL, None):
        process = live("--out", f"jsonl:{out}", "--out", f"parquet:{tables}?seconds=0.2")
        try:
            process.stdin.write(pcap_bytes(packets))
            process.stdin.flush()
            before = counts[0][0] if counts else 0
            wait_for(lambda n=before: len(records(out)) - n, 2 * N)
            wait_for(lambda: len(list(tables.glob("*.parquet"))), len(counts) + 1)
            if end is not None:
                process.send_signal(end)
            process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
        files = tables.glob("*.parquet")
        counts.append((len(records(out)), sum(pq.read_table(path).num_rows for path in files)))
    assert counts[0][0] >= 2 * N
    assert counts[0][1] >= 1
    assert counts[1][0] - counts[0][0] == 4 * N
    assert counts[1][1] - counts[0][1] == 4 * N
