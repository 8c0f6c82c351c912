"""The command line: one module per verb, as documented in docs/reference/cli.md."""

from __future__ import annotations


def main() -> None:
    """The program ``apptell``."""
    import gc
    import os
    import sys

    # to load modules and tables makes a million objects that stay, and a search among them finds nothing
    gc.set_threshold(50_000, 20, 20)

    import typer

    from apptell.cli.app import app
    from apptell.cli.screen import choose_progress
    from apptell.cli.standard_streams import install
    from apptell.cli.verb import exit_codes
    from apptell.kernels.notice import announce_compilation

    if "_APPTELL_COMPLETE" in os.environ:
        # one line for each completion: Typer breaks descriptions at the terminal's width, which shells misread
        os.environ["COLUMNS"] = "1000"
    install()
    choose_progress("auto")
    announce_compilation()
    try:
        with exit_codes():
            try:
                app(prog_name="apptell")
            finally:
                sys.stdout.flush()
    except typer.Exit as end:
        sys.exit(end.exit_code)
