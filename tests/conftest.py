"""Settings of every test run."""

from __future__ import annotations

import importlib
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

fcntl = importlib.import_module("fcntl") if os.name == "posix" else None

# Matrices in tests are small. Numeric libraries that share them among threads spend most of their time waiting
# for each other, and several workers of the test run would compete for the same cores.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


@pytest.fixture
def bounds_checked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a process whose kernels check every index.

    All tests of the run share what is compiled, one after the other, so that no two compile the same.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with ExitStack() as stack:
        if fcntl is not None:
            fcntl.flock(
                stack.enter_context((folder / "bounds-checked.lock").open("w")), fcntl.LOCK_EX
            )
        yield {
            **os.environ,
            "NUMBA_BOUNDSCHECK": "1",
            "NUMBA_CACHE_DIR": str(folder / "bounds-checked"),
        }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: no worker of a run begins a long one when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)
