"""Prints one line on standard error before the first kernel of a command is compiled.

A library stays silent. The program ``apptell`` calls ``announce_compilation``; the processes that it starts
share the announcement, so that the line appears once however many of them compile.
"""

from __future__ import annotations

import atexit
import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Final

VARIABLE: Final = "_APPTELL_COMPILING"
"""Names the file whose creation is the right to print the line; inherited by worker processes."""
_LINE: Final = (
    "apptell: compiling what this command needs, for the first time; this takes up to a minute"
)


def announce_compilation() -> None:
    """Announces the next compilation by this process or by one that it starts; later ones are silent."""
    name = Path(tempfile.gettempdir()) / f"apptell-{os.getpid()}-{secrets.token_hex(8)}"
    os.environ[VARIABLE] = str(name)
    atexit.register(name.unlink, missing_ok=True)


def compiling() -> None:
    """Prints the line if the program asked for it and no process of the same command has printed it yet."""
    name = os.environ.get(VARIABLE)
    if not name:
        return
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError:
        os.environ[VARIABLE] = ""  # no file can be made: at least once for each process
    print(_LINE, file=sys.stderr, flush=True)
