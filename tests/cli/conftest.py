import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apptell.testing import START_NS, app_capture, tiny_model, write_pcap

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs ``apptell`` as a user does: a process of its own with its own streams (``fork_server``)."""
    folder = tmp_path_factory.mktemp("run")
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("fork_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    requests, answers = server.stdin, server.stdout
    at_start = _numba_settings()

    def apptell(
        *arguments: object, stdin: bytes = b"", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        assert _numba_settings() == at_start, "these are read once, when the server starts"
        (folder / "in").write_bytes(stdin)
        for name in ("out", "err"):
            (folder / name).write_bytes(b"")
        request: dict[str, Any] = {
            "argv": [os.fsdecode(each) for each in map(str, arguments)],
            "cwd": str(cwd or Path.cwd()),
            "env": {**os.environ, "COLUMNS": "200"},
            "folder": str(folder),
        }
        requests.write(json.dumps(request) + "\n")
        requests.flush()
        child = int(answers.readline())
        stuck = threading.Timer(300, os.kill, (child, signal.SIGKILL))
        stuck.start()
        code = int(answers.readline())
        stuck.cancel()
        return subprocess.CompletedProcess(
            request["argv"],
            code,
            (folder / "out").read_bytes().decode(),
            (folder / "err").read_bytes().decode(),
        )

    yield apptell
    requests.close()
    server.wait()
    answers.close()


def _numba_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("NUMBA_")}


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
