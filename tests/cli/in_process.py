"""``apptell`` in the process of the tests: much quicker than one of its own."""

import io
import sys

import pytest

from apptell.cli import main


def run_here(monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str]:
    """The exit code and the standard error of ``apptell ...`` in this process."""
    said = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["apptell", *map(str, words)])
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0), said.getvalue()
    return 0, said.getvalue()
