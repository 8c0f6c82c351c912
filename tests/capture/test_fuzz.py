import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.fuzz_captures import fuzz, mutants, read_packets, read_whole, talking_captures

from tests.capture.crafted import good_captures


def test_every_good_capture_is_read():
    assert all(read_packets(data) for data in good_captures().values())


def test_every_talking_capture_gives_flows():
    flows = {name: read_whole(data) for name, data in talking_captures().items()}
    assert min(flows[name] for name in ("tls", "http", "smtp", "quic", "dtls", "fragments")) > 0


@pytest.mark.parametrize("read", [read_packets, read_whole], ids=["packets", "flows"])
def test_a_thousand_mutants_give_packets_or_flows_or_capture_errors(tmp_path, read):
    captures = good_captures() | talking_captures()
    counts = fuzz(captures, n_mutants=1000, seed=1, read=read, save=tmp_path)
    assert counts["found"] == 0, sorted(tmp_path.iterdir())
    assert counts["fine"] > 10
    assert counts["refused"] > 10


def test_the_same_seed_gives_the_same_mutants():
    captures = good_captures()
    assert list(mutants(captures, 20, 3)) == list(mutants(captures, 20, 3))
    assert list(mutants(captures, 20, 3)) != list(mutants(captures, 20, 4))


@pytest.mark.slow
def test_the_compiled_kernels_stay_within_bounds_on_mutants(tmp_path):
    environment = {
        **os.environ,
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(
            tmp_path / "cache"
        ),  # bounds checking is not part of the cache's key
    }
    command = [sys.executable, "-m", "benchmarks.fuzz_captures", "--mutants", "3000"]
    done = subprocess.run(
        [*command, "--save", str(tmp_path / "finds")],
        cwd=Path(__file__).resolve().parents[2],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'found': 0" in done.stdout
