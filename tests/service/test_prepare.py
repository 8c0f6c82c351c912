"""What ``apptell config compile`` leaves compiled."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# A kernel from a cache does not load the kernels that it calls: only an empty cache shows them all.
PROGRAM = """
from apptell.kernels.compiled import KERNELS
from apptell.models import load_model
from apptell.service.prepare import prepare

prepare(load_model())
for each in KERNELS:
    if not each.signatures:
        print(f"{each.py_func.__module__}.{each.__name__}")
"""


@pytest.mark.slow
def test_every_kernel_that_a_capture_may_need_is_prepared(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    missing = done.stdout.split()
    assert [name for name in missing if not name.startswith("apptell.learning.")] == []
