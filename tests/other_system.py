"""Runs ``apptell`` as on a system without what only Linux or Unix has.

``python -m tests.other_system macos|windows COMMANDS``: the commands are a JSON list of lists of words. The
attributes and modules that the system lacks are taken away before apptell is imported; libraries that have
been imported before keep them, because their builds for that system do without.
"""

from __future__ import annotations

import importlib
import importlib.abc
import json
import os
import signal
import socket
import sys
import types
from typing import Any

LINUX_ONLY: dict[Any, tuple[str, ...]] = {
    os: ("sched_getaffinity", "sched_setaffinity"),
    socket: ("AF_PACKET",),
}
UNIX_ONLY: dict[Any, tuple[str, ...]] = {
    os: (
        "fchmod", "O_CLOEXEC", "sync", "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "fork", "getuid", "geteuid",
        "killpg", "mkfifo",
    ),
    signal: ("SIGHUP", "SIGKILL", "SIGUSR1", "pthread_sigmask"),
}  # fmt: skip
UNIX_MODULES = ("fcntl", "resource", "termios", "pty", "pwd", "grp", "tty")
BEFORE = (
    "asyncio", "concurrent.futures", "multiprocessing", "shutil", "socketserver", "subprocess", "tempfile",
    "numba", "onnxruntime", "psutil", "pyarrow", "sklearn",
)  # fmt: skip


class Absent(importlib.abc.MetaPathFinder):
    """Finds no module that Windows lacks."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Refuses these modules."""
        if fullname in UNIX_MODULES:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def take_away(system: str) -> None:
    """Takes away what the system lacks."""
    for name in BEFORE:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:  # an extra that is not installed
            continue
    absent = [LINUX_ONLY] + [UNIX_ONLY] * (system == "windows")
    for module, names in (item for each in absent for item in each.items()):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    if system == "windows":
        for name in UNIX_MODULES:
            sys.modules.pop(name, None)
        sys.meta_path.insert(0, Absent())
        lock = types.SimpleNamespace(LK_NBLCK=2, locking=lambda _handle, _mode, _n: None)
        sys.modules["msvcrt"] = lock  # type: ignore[assignment]


def main() -> int:
    """Runs the commands, and ends with the exit code of the first that fails."""
    system, commands = sys.argv[1], json.loads(sys.argv[2])
    take_away(system)
    import apptell.flows.apart
    from apptell.cli import main as apptell_main

    apptell.flows.apart.CAN_FORK = False  # type: ignore[misc]
    for words in commands:
        sys.argv = ["apptell", *words]
        try:
            apptell_main()
        except SystemExit as end:
            if end.code:
                return int(end.code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
