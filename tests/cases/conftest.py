"""The cases run ``apptell`` as the tests of the command line do."""

from tests.cli.conftest import fork_server, run, run_in_terminal

__all__ = ["fork_server", "run", "run_in_terminal"]
