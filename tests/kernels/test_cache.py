from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from numba import njit
import apptell.kernels.cache
njit(lambda value: value + 1)(1)
njit(lambda value: value + 2)(1)
"""


def test_who_waits_for_a_compilation_is_told_once():
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert run.stderr == "apptell: compiling kernels, once; later runs begin at once\n"
