"""Runs the command line in a new process for each line of standard input, without importing everything anew.

The libraries are imported once; a copy of this process then is ``apptell`` with the arguments, the environment
and the working directory of the line. The line is JSON: ``argv``, ``cwd``, ``env`` and ``folder``, which holds
the file ``in`` and gets ``out`` and ``err``. The answer is two lines: the process' number, and its exit code.
"""

from __future__ import annotations

import atexit
import importlib
import io
import json
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

LIBRARIES = (
    "apptell.cli.app", "apptell.experiments", "apptell.learning", "apptell.names", "apptell.records",
    "apptell.reports", "apptell.service", "apptell.verdicts", "numba", "onnx", "onnxruntime", "pandas",
    "pyarrow.compute", "pyarrow.csv", "pyarrow.dataset", "pyarrow.parquet", "scipy.stats",
    "sklearn.ensemble", "sklearn.neighbors", "torch",
)  # fmt: skip


def serve() -> None:
    """Answers one line after the other until there are no more."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.dup(1)
    for library in LIBRARIES:
        with suppress(ModuleNotFoundError):  # without the training extra some are not there
            importlib.import_module(library)
    for line in requests:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_run(request))
        os.write(answers, f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _run(request: dict[str, Any]) -> int:
    folder = Path(request["folder"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for name, number, flags in (
        ("in", 0, os.O_RDONLY),
        ("out", 1, os.O_WRONLY),
        ("err", 2, os.O_WRONLY),
    ):
        handle = os.open(folder / name, flags | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")  # type: ignore[misc]
    sys.argv = ["apptell", *request["argv"]]
    code: Any = 0
    try:
        from apptell.cli import main

        main()
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:  # noqa: BLE001 (as Python ends)
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code)


if __name__ == "__main__":
    serve()
