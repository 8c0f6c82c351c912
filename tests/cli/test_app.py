"""The verbs of the command line, which are imported when they are asked for."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from apptell.cli.app import VERBS, app


def test_help_lists_every_verb_and_imports_none():
    code = (
        "import sys; from typer.testing import CliRunner; from apptell.cli.app import app;"
        "print(CliRunner().invoke(app, ['--help']).stdout);"
        "print([each for each in sys.modules if each.startswith('apptell.cli.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *lines, modules = done.stdout.rstrip().splitlines()
    shown = "\n".join(lines)
    for word, what in VERBS.items():
        assert f"  {word.ljust(max(map(len, VERBS)))}  {what}\n" in shown
        assert f"'apptell.cli.{word}'" not in modules


@pytest.mark.parametrize("word", sorted(VERBS))
def test_a_verb_is_said_in_one_line_and_has_help_of_its_own(word):
    assert VERBS[word].endswith(".")
    assert len(VERBS[word]) < 61
    command = typer.main.get_command(app).commands[word]
    assert command.name == word
    assert command.help


def test_a_verb_that_is_not_there_is_refused_with_one_like_it():
    done = CliRunner().invoke(app, ["identfy", "x.pcap"])
    assert done.exit_code == 2
    assert "No such command 'identfy'. Did you mean 'identify'?" in done.stderr
