"""``python -m apptell`` is the command ``apptell``."""

from apptell.cli import main

main()
