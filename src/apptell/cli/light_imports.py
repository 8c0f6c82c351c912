"""Keeps pandas and SciPy out of the commands that read captures, also where they are installed.

pyarrow looks for pandas at its first conversion, Numba for SciPy's linear algebra at its first kernel. They
take a third as long to load as all that these commands need.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

_UNUSED = ("pandas", "scipy")
_READERS = ("identify", "explain", "flows", "inspect", "live", "top")
"""Verbs that use neither."""


@contextmanager
def without_unused(verb: str | None) -> Iterator[None]:
    """Runs a verb so that pyarrow and Numba find neither; does nothing where an extension may need one."""
    is_loaded = any(name in sys.modules for name in _UNUSED)
    if verb not in _READERS or is_loaded or not any(map(find_spec, _UNUSED)) or _has_extensions():
        yield
        return
    with _hidden():
        yield


def _has_extensions() -> bool:
    from importlib.metadata import entry_points

    return any(group.startswith("apptell.") for group in entry_points().groups)


@contextmanager
def _hidden() -> Iterator[None]:
    sys.meta_path.insert(0, _Hidden)
    try:
        yield
    finally:
        sys.meta_path.remove(_Hidden)


class _Hidden:
    """A finder for which the unused libraries do not exist."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:  # noqa: ARG004
        """Finds nothing else either.

        Raises:
            ModuleNotFoundError: the name is one of an unused library.
        """
        if name in _UNUSED:
            raise ModuleNotFoundError(f"{name} is not needed", name=name)
