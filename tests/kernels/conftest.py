"""A process with Numba loaded, of which kernels' tests run copies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .test_compiled import Install

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def numba_copies() -> Iterator[None]:
    """Gives every install the process whose copies run its programs; where there is no fork, none."""
    if not hasattr(os, "fork"):
        yield
        return
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA")}
    Install.copies = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("numba_copies.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    yield
    Install.copies.communicate()
    Install.copies = None
