"""Runs ``apptell`` in a terminal, as a person does."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path


def run_in_terminal(
    *arguments: object, columns: int = 200, cwd: Path | None = None
) -> tuple[int, bytes]:
    """The exit code and every byte that the terminal got, from standard output and standard error."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "apptell.cli", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env={**environment, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # EIO: the last process that had the terminal has ended
            break
        if not data:
            break
        shown += data
    os.close(ours)
    return process.wait(timeout=60), shown
