"""Settings of every test run."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from apptell.files import write_file
from apptell.kernels.cache_folders import cache_folders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

fcntl = importlib.import_module("fcntl") if os.name == "posix" else None

# Matrices in tests are small. Numeric libraries that share them among threads spend most of their time waiting
# for each other, and several workers of the test run would compete for the same cores.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# Tests start many processes. Where compiled sources are not kept, each compiles all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How long an example takes depends on the machine, and the first one may compile a kernel.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

# At Ray's niceness of 15 its workers starve beside busy processes.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (the name that Ray reads)
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compiles all kernels before several workers run all tests: each would compile the same ones."""
    config = session.config
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if not is_whole or not config.getoption("numprocesses", None) or config.option.collectonly:
        return
    folder = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    running = [
        _compile(folder / "kernels"),
        _compile(folder / "bounds-checked", NUMBA_BOUNDSCHECK="1"),
    ]
    for process in running:
        process.wait()
    (cache, *_) = cache_folders()
    cache.mkdir(parents=True, exist_ok=True)
    for made in (folder / "kernels").rglob("*"):
        if made.suffix in (".nbi", ".nbc", ".mc"):
            write_file(cache / made.name, made.read_bytes())


def _compile(folder: Path, **settings: str) -> subprocess.Popen[bytes]:
    """Begins to compile every kernel into a folder; a file beside it tells what was done."""
    command = [sys.executable, "-m", "apptell.cli", "config", "compile", "--cache", str(folder)]
    with folder.with_suffix(".json").open("wb") as told:
        return subprocess.Popen(command, stdout=told, env={**os.environ, **settings})


def _run_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of the run share."""
    folder = factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what ``config compile`` compiles; the file beside it, JSON, is what it printed."""
    folder = _run_folder(tmp_path_factory) / "kernels"
    if not folder.with_suffix(".json").exists():
        assert _compile(folder).wait() == 0
    return folder


@pytest.fixture
def bounds_checked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a process whose kernels check every index.

    Unless all of them have been compiled, tests run one after the other, so that no two compile the same.
    """
    folder = _run_folder(tmp_path_factory) / "bounds-checked"
    with ExitStack() as stack:
        if fcntl is not None and not folder.with_suffix(".json").exists():
            fcntl.flock(stack.enter_context(folder.with_suffix(".lock").open("w")), fcntl.LOCK_EX)
        yield {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(folder)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: no worker of a run begins a long one when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)
