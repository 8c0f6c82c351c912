"""Words typed at a prompt in, the house's work done: one module per verb, as in docs/cli.md."""

from __future__ import annotations

LOCATORS = (
    "UserProvidedCacheLocator,InTreeCacheLocator,apptell.kernels.cache.Prepared,"
    "UserWideCacheLocator,apptell.kernels.cache.Temporary"
)
"""Where compiled kernels are kept or found, in this order (``apptell.kernels.cache``)."""


def main() -> None:
    """The program ``apptell``."""
    import os

    from apptell.cli.app import app

    # read by numba when it is first imported
    os.environ.setdefault("NUMBA_CACHE_LOCATOR_CLASSES", LOCATORS)
    app(prog_name="apptell")
