import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from apptell.testing import START_NS, app_capture, tiny_model, write_pcap

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs ``apptell`` as a user does: a process of its own, its streams pipes."""

    def apptell(
        *arguments: object, stdin: bytes = b"", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "apptell.cli", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=cwd,
            env={**os.environ, "COLUMNS": "200"},
            timeout=300,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return apptell


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows signal and zoom as ``apptell.testing`` invents them."""
    pytest.importorskip("sklearn")
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four flows of signal and four of zoom on one phone."""
    path = tmp_path_factory.mktemp("capture") / "phone.pcap"
    return write_pcap(path, app_capture(["signal", "zoom"], 4, seed=500))


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five recordings of both apps, as ``--labels folders`` reads them."""
    root = tmp_path_factory.mktemp("recordings")
    for i in range(5):
        (root / f"home{i}").mkdir()
        for app in ("signal", "zoom"):
            start_ns = START_NS + i * 10**13
            packets = app_capture([app], 4, seed=1000 + 100 * i, start_ns=start_ns)
            write_pcap(root / f"home{i}" / f"{app}.pcap", packets)
    return root


@pytest.fixture(scope="session")
def dataset(recordings: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset built from the recordings."""
    path = tmp_path_factory.mktemp("dataset") / "flows"
    done = run("dataset", "build", recordings, "-o", path, "--labels", "folders")
    assert done.returncode == 0, done.stderr
    return path
