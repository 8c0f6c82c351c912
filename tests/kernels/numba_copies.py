"""Runs each program of standard input in a copy of one process that has loaded Numba.

To load Numba takes longer than to compile a small kernel. A line is JSON: the ``program``, its ``env``, the
folder ``path`` that its modules are in, and the files ``out`` and ``err`` of its streams. The answer is its
exit code in a line.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any


def serve() -> None:
    """Answers one line after the other until there are no more."""
    import numpy as np
    from numba import njit

    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.dup(1)
    sys.dont_write_bytecode = True  # sources change faster than their times tell
    njit(lambda array: array.sum())(np.zeros(2))  # loads what Numba loads when it first compiles
    assert "apptell" not in sys.modules
    for line in requests:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = _run(json.loads(line))
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _run(request: dict[str, Any]) -> int:
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path.insert(0, request["path"])
    sys.argv = ["-c"]
    for name, number in (("out", 1), ("err", 2)):
        handle = os.open(request[name], os.O_WRONLY | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)
    try:
        exec(request["program"], {"__name__": "__main__"})
        return 0
    except BaseException:  # noqa: BLE001 (as Python ends)
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    serve()
