"""``python -m apptell.cli``: the same as ``apptell``."""

from apptell.cli import main

main()
