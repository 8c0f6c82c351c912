"""Runs the command line in a new process for each line of standard input, without loading everything anew.

Modules and kernels are loaded once; a copy of this process then is ``apptell`` with the arguments, the
environment and the working directory of the line. The line is JSON: ``argv``, ``cwd``, ``env``, and the paths
``in``, ``out`` and ``err`` of its streams. The answer is two lines: the process' number, and its exit code.
"""

from __future__ import annotations

import atexit
import importlib
import io
import json
import os
import pkgutil
import sys
import traceback
from contextlib import suppress
from typing import Any

ROOMS = (
    "capture", "catalogue", "cli", "dataset", "encoding", "evaluation", "flows", "history", "labels", "models",
    "names", "packets", "reasons", "records", "reports", "service", "verdicts", "watch",
)  # fmt: skip
LIBRARIES = (
    "jinja2", "numba", "onnxruntime", "pandas", "publicsuffixlist", "pyarrow.compute", "pyarrow.csv",
    "pyarrow.dataset", "pyarrow.parquet", "pydantic.plugin._loader",
)  # fmt: skip
TRAINING_VERBS = {"audit", "compare", "demo", "discover", "reproduce", "train", "tune", "update"}
TRAINING_ROOMS = ("experiments", "learning")
TRAINING_LIBRARIES = (
    "onnx", "scipy.optimize", "scipy.stats", "sklearn.ensemble", "sklearn.neighbors",
    "torch._dynamo",  # every optimizer imports it
)  # fmt: skip


def serve() -> None:
    """Answers one line after the other until there are no more."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.dup(1)
    _load(ROOMS, LIBRARIES)
    _load_kernels()
    for line in requests:
        request = json.loads(line)
        if TRAINING_VERBS.intersection(request["argv"][:1]):
            _load(TRAINING_ROOMS, TRAINING_LIBRARIES)
        child = os.fork()
        if child == 0:
            os._exit(_run(request))
        os.write(answers, f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _load(rooms: tuple[str, ...], libraries: tuple[str, ...]) -> None:
    """Imports what is there: without an extra, some libraries are not."""
    names = list(libraries)
    for room in rooms:
        package = importlib.import_module(f"apptell.{room}")
        names += [
            each.name for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        ]
    for name in names:
        if not name.endswith("__main__"):
            with suppress(ImportError):
                importlib.import_module(name)


def _load_kernels() -> None:
    from apptell.flows import FlowOptions
    from apptell.service.warm_up import warm_up

    warm_up(FlowOptions(transports=(6, 17)), None)


def _run(request: dict[str, Any]) -> int:
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for name, number, flags in (
        ("in", 0, os.O_RDONLY),
        ("out", 1, os.O_WRONLY),
        ("err", 2, os.O_WRONLY),
    ):
        handle = os.open(request[name], flags | os.O_APPEND | os.O_NOCTTY)
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
