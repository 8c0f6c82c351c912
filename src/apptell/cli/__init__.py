"""Words typed at a prompt in, the house's work done: one module per verb, as in docs/reference/cli.md."""

from __future__ import annotations


def main() -> None:
    """The program ``apptell``."""
    from apptell.cli.app import app
    from apptell.kernels.notice import announce_compilation

    announce_compilation()
    app(prog_name="apptell")
