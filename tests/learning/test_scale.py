"""What benchmarks/scale.py does on a million flows, small: payload must never be in memory at once."""

import json
import subprocess
import sys

import numpy as np
import pytest

from apptell.dataset import DatasetWriter
from apptell.flows.schema import FlowBatch

N_CLASSES = 100
PAYLOAD_BYTES = 12 * 4096


def write_dataset(folder, n_flows):
    """Flows of a hundred classes, told apart by their lengths, each with all the payload one can have."""
    random = np.random.default_rng(0)
    blobs = [random.bytes(4096) for _ in range(64)]
    with DatasetWriter(folder) as writer:
        for start in range(0, n_flows, 500):
            rows = np.arange(start, start + 500)
            app = rows % N_CLASSES
            length = app[:, None] * 13 + random.integers(1, 12, (500, 12))
            signed = np.where(np.arange(12) % 2, -length, length)
            writer.write(
                FlowBatch.from_columns(
                    {
                        "capture": ["made"] * 500,
                        "connection_id": rows + 1,
                        "part": [0] * 500,
                        "protocol": [6] * 500,
                        "server_address": ["192.0.2.1"] * 500,
                        "start_ns": rows,
                        "payload_packets_to_server": [6] * 500,
                        "payload_packets_to_client": [6] * 500,
                        "segment_length": (length + 4096).tolist(),
                        "segment_to_server": (signed > 0).tolist(),
                        "segment_time_ns": [list(range(12))] * 500,
                        "segment_bytes": [
                            [blobs[at] for at in row]
                            for row in random.integers(0, 64, (500, 12)).tolist()
                        ],
                        "sequence_length": signed.tolist(),
                        "sequence_gap_us": [[0] * 12] * 500,
                        "label": [f"app{number}" for number in app.tolist()],
                        "groups": [[("session", f"s{row // 200}")] for row in rows.tolist()],
                    }
                )
            )
        writer.commit()
    return folder


VERBS = """
import json, sys
from apptell.cli import main
for sys.argv[1:] in json.loads(sys.argv[1]):
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""
# A process begins with the peak of the one that started it: a small one stands between this and that.
LAUNCHER = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.stderr.buffer.write(done.stderr)
sys.exit(done.returncode)
"""


def peak_mb(*verbs):
    """Runs ``apptell`` with each list of words, in one process; its peak memory."""
    words = json.dumps([[str(word) for word in verb] for verb in verbs])
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-c", VERBS, words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the system does not say a child's memory")
def test_a_forest_of_a_hundred_classes_learns_in_memory_that_payload_does_not_fill(tmp_path):
    peaks = []
    for n_flows in (4500, 9000):  # several row groups each; with fewer, buffers still grow
        dataset = write_dataset(tmp_path / f"flows-{n_flows}", n_flows)
        asked = (dataset, "--model", "paper-rf", "--split", "session", "-o")
        report = tmp_path / f"report-{n_flows}"
        trained = ("train", *asked, tmp_path / f"model-{n_flows}", "--set", "n_trees=10")
        compared = ("compare", *asked, report, "--only", "--seeds", 1, "--held-out", 0)
        peaks.append(peak_mb(trained, compared))
        found = json.loads((report / "metrics.json").read_text())
        assert len(found["apps"]) == N_CLASSES
        assert found["models"][0]["accuracy"] > 0.9
    small, large = peaks
    assert large - small < 4500 * PAYLOAD_BYTES / 2**20 / 2  # MB: half of the further payload
