import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apptell.testing import START_NS, app_capture, tiny_model, write_pcap

Run = Callable[..., subprocess.CompletedProcess[str]]
RunInTerminal = Callable[..., tuple[int, bytes]]


class ForkServer:
    """Begins processes of ``apptell`` that need not load everything anew (``fork_server.py``)."""

    def __init__(self) -> None:
        self._at_start = _numba_settings()
        self._server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("fork_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, argv: list[str], cwd: Path | None, env: dict[str, str], **streams: str) -> int:
        """Begins one on the files ``in``, ``out`` and ``err``, and returns its number."""
        assert _numba_settings() == self._at_start, "these are read once, when the server starts"
        assert self._server.stdin is not None
        request = {"argv": argv, "cwd": str(cwd or Path.cwd()), "env": env, **streams}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        child = self._answer()
        self._stuck = threading.Timer(300, os.kill, (child, signal.SIGKILL))
        self._stuck.start()
        return child

    def wait(self) -> int:
        """The exit code of the process that was begun."""
        code = self._answer()
        self._stuck.cancel()
        return code

    def close(self) -> None:
        self._server.communicate()

    def _answer(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def run(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs ``apptell`` as a user does: a process of its own with its own streams."""
    folder = tmp_path_factory.mktemp("run")

    def apptell(
        *arguments: object, stdin: bytes = b"", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        for name, content in (("in", stdin), ("out", b""), ("err", b"")):
            (folder / name).write_bytes(content)
        streams = {name: str(folder / name) for name in ("in", "out", "err")}
        argv = words_of(arguments)
        fork_server.begin(argv, cwd, {**os.environ, "COLUMNS": "200"}, **streams)
        code = fork_server.wait()
        out, err = ((folder / name).read_bytes().decode() for name in ("out", "err"))
        return subprocess.CompletedProcess(argv, code, out, err)

    return apptell


@pytest.fixture(scope="session")
def run_in_terminal(fork_server: ForkServer) -> RunInTerminal:
    """Runs ``apptell`` in a terminal, as a person does.

    Returns the exit code and every byte that the terminal got, from standard output and standard error.
    """

    def apptell(*arguments: object, cwd: Path | None = None) -> tuple[int, bytes]:
        from .terminal import open_terminal  # only on POSIX

        env = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
        env["TERM"] = "xterm-256color"
        with open_terminal() as (path, shown):
            streams = {"in": os.devnull, "out": path, "err": path}
            fork_server.begin(words_of(arguments), cwd, env, **streams)
            code = fork_server.wait()
        return code, bytes(shown)

    return apptell


def words_of(arguments: tuple[object, ...]) -> list[str]:
    return [os.fsdecode(each) for each in map(str, arguments)]


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
