"""Kernels are compiled once and again whenever anything changes that they are made of."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest

from apptell.kernels import compiled
from apptell.kernels.notice import VARIABLE

SOURCE = Path(__file__).resolve().parents[2] / "src/apptell"
KERNEL = """
from apptell.kernels.compiled import kernel
from apptell.packets.numbers import ANSWER

@kernel
def answer(value):
    return value + ANSWER
"""
PROGRAM = """
import sys
from apptell.kernels.notice import announce_compilation
announce_compilation()
from apptell.packets.adder import answer
print(answer(1), sum(answer.stats.cache_misses.values()), answer.stats.cache_path)
"""


class Install:
    """A package with the real ``kernels`` and one small kernel."""

    copies: ClassVar[subprocess.Popen[str] | None] = None
    """The process with Numba loaded, which runs programs in copies of itself."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "install"
        self.cache = folder / "cache"
        package = self.root / "apptell"
        shutil.copytree(
            SOURCE / "kernels", package / "kernels", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(SOURCE / "errors.py", package)
        (package / "packets").mkdir()
        shutil.copy(SOURCE / "files.py", package)
        for name in ("__init__.py", "packets/__init__.py"):
            (package / name).touch()
        (package / "packets/adder.py").write_text(KERNEL)
        self.constant(41)

    def with_cache(self, folder: Path) -> Install:
        """The same install with a copy of its cache."""
        other = copy.copy(self)
        other.cache = Path(shutil.copytree(self.cache, folder))
        return other

    def constant(self, value: int) -> None:
        (self.root / "apptell/packets/numbers.py").write_text(
            f"from apptell.packets.deeper import OTHER\nANSWER = OTHER + {value}\n"
        )
        self.deeper(0)

    def deeper(self, value: int) -> None:
        (self.root / "apptell/packets/deeper.py").write_text(f"OTHER = {value}\n")

    def run(
        self, program: str = PROGRAM, *, anew: bool = False, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program in a process of its own.

        Args:
            program: Python.
            anew: whether the process begins without Numba; it does if Numba has settings.
            variables: of its environment.
        """
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("NUMBA") and name != VARIABLE
        }
        environment |= {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"NUMBA_CACHE_DIR": str(self.cache)} | variables
        settings = {name for name in variables if name.startswith("NUMBA")} - {"NUMBA_CACHE_DIR"}
        if self.copies is None or anew or settings:
            command = [sys.executable, "-c", program]
            return subprocess.run(command, env=environment, capture_output=True, text=True)
        with TemporaryDirectory() as folder:
            out, err = (Path(folder, name) for name in ("out", "err"))
            out.touch()
            err.touch()
            request = {"program": program, "env": environment, "path": str(self.root)}
            print(
                json.dumps(request | {"out": str(out), "err": str(err)}),
                file=self.copies.stdin,
                flush=True,
            )
            assert self.copies.stdout is not None
            code = int(self.copies.stdout.readline())
            return subprocess.CompletedProcess(["-c"], code, out.read_text(), err.read_text())

    def answer(self, **variables: str) -> tuple[int, bool]:
        """What the kernel returns, and whether it was compiled for that."""
        done = self.run(**variables)
        assert done.returncode == 0, done.stderr
        value, misses, _ = done.stdout.split()
        assert ("compiling" in done.stderr) == (misses == "1")
        return int(value), misses == "1"


@pytest.fixture
def install(tmp_path):
    return Install(tmp_path)


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    made = Install(tmp_path_factory.mktemp("compiled"))
    assert made.answer() == (42, True)
    return made


@pytest.fixture
def compiled_install(compiled_once, tmp_path):
    """An install whose kernel has been compiled; its cache is a test's own, its sources are not."""
    return compiled_once.with_cache(tmp_path / "cache")


def test_a_second_thread_waits_until_compiling_is_prepared(monkeypatch):
    begun, may_end, done = threading.Event(), threading.Event(), []

    def prepare():
        begun.set()
        may_end.wait(60)
        done.append("prepared")

    def second():
        compiled.prepare_compiling()
        done.append("second")

    monkeypatch.setattr(compiled, "_PREPARATIONS", [prepare])
    threads = [threading.Thread(target=each) for each in (compiled.prepare_compiling, second)]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    threads[1].join(0.3)  # long enough to be wrong
    may_end.set()
    for each in threads:
        each.join(60)
    assert done == ["prepared", "second"]


def test_a_kernel_is_compiled_again_when_a_constant_of_an_imported_module_changes(install):
    assert install.answer() == (42, True)
    install.constant(99)
    assert install.answer() == (100, True)
    install.deeper(1000)
    assert install.answer() == (1100, True)
    for path in install.root.rglob("*.py"):
        os.utime(path, (1, 1))  # times of files do not matter
    assert install.answer() == (1100, False)


def test_without_a_named_folder_the_package_keeps_its_kernels(install):
    assert install.answer(NUMBA_CACHE_DIR="") == (42, True)
    assert list(install.root.glob("apptell/kernels/__pycache__/*.nbi"))
    assert install.answer(NUMBA_CACHE_DIR="", HOME="/proc/none") == (42, False)


def test_bounds_checking_has_compiled_code_of_its_own(compiled_install):
    assert compiled_install.answer(NUMBA_BOUNDSCHECK="1") == (42, True)
    assert compiled_install.answer() == (42, False)


def test_a_damaged_cache_file_is_made_anew(compiled_install):
    for pattern in ("*.nbi", "*.nbc"):
        for path in (*compiled_install.cache.rglob(pattern), *compiled_install.cache.rglob("*.mc")):
            path.write_bytes(path.read_bytes()[:40])
        assert compiled_install.answer() == (42, True)
    assert compiled_install.answer() == (42, False)


@pytest.mark.parametrize(("mode", "inner"), [(0o1777, False), (0o775, True)])
def test_a_folder_that_others_can_write_to_is_refused(compiled_install, mode, inner):
    folder = next(compiled_install.cache.iterdir()) if inner else compiled_install.cache
    folder.chmod(mode)
    done = compiled_install.run()
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == (
        f"apptell.errors.UsageError: NUMBA_CACHE_DIR: {folder}: other users can write to this folder; "
        "compiled code is only loaded from a folder that nobody else can change"
    )


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root")
def test_a_folder_of_another_user_is_refused(compiled_install):
    os.chown(compiled_install.cache, 12345, 12345)
    assert "the folder belongs to another user" in compiled_install.run().stderr


def test_a_file_mode_mask_that_lets_others_write_does_not_apply_to_the_cache(install):
    loose = "import os\nos.umask(0)\n" + PROGRAM
    assert install.run(loose).returncode == 0
    found = [install.cache, *install.cache.rglob("*")]
    assert len(found) > 3
    assert all(path.stat().st_mode & 0o022 == 0 for path in found)
    assert install.answer() == (42, False)


def test_a_folder_that_cannot_be_made_costs_the_cache_alone(install):
    assert install.answer(NUMBA_CACHE_DIR="/proc/none") == (42, True)


def test_compilation_is_announced_once_however_many_processes_compile(install):
    install.cache = Path("/proc/none")  # so that each of them compiles
    program = PROGRAM + (
        "import subprocess\n"
        "answer(1.5)\n"
        "inner = 'from apptell.packets.adder import answer; answer(2)'\n"
        "for each in [subprocess.Popen([sys.executable, '-c', inner]) for _ in range(2)]: each.wait()\n"
    )
    done = install.run(program)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "apptell: compiling what this command needs, for the first time; this takes up to a minute"
    ]


def test_a_library_announces_nothing(install):
    done = install.run("from apptell.packets.adder import answer; print(answer(1))")
    assert (done.stdout, done.stderr) == ("42\n", "")


def test_every_kernel_of_the_package_has_this_cache():
    import importlib
    import pkgutil

    from numba.core.dispatcher import Dispatcher

    import apptell
    from apptell.kernels.compiled import KERNELS, Kernel

    for module in pkgutil.walk_packages(apptell.__path__, "apptell."):
        text = Path(str(module.module_finder.path), f"{module.name.split('.')[-1]}.py")  # type: ignore[union-attr]
        if not text.exists() or "kernel" not in text.read_text() or "learning" in module.name:
            continue
        loaded = importlib.import_module(module.name)
        for name, value in vars(loaded).items():
            assert not isinstance(value, Dispatcher), f"{module.name}.{name}"
            assert not isinstance(value, Kernel) or value in KERNELS, f"{module.name}.{name}"
    assert len(KERNELS) > 40
