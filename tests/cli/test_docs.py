"""docs/reference/cli.md and ``--help`` have the same verbs and options."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from apptell.cli.app import app
from apptell.cli.settings import FORBIDDEN_HERE

GROUPS = {"dataset", "catalogue", "config", "models"}
"""Sections about several verbs."""
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
_HEADING = re.compile(r"^#{2,3} apptell (.+)$", re.MULTILINE)


def _verbs() -> dict[str, Any]:
    def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        for verb, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, f"{name} {verb}".strip())
        if not hasattr(command, "commands"):
            yield name, command

    return dict(walk(typer.main.get_command(app), ""))


def _sections() -> dict[str, str]:
    text = DOCS.read_text(encoding="utf-8")
    heads = list(_HEADING.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    return {head[1]: text[head.end() : end] for head, end in zip(heads, ends, strict=True)}


VERBS = _verbs()
SECTIONS = _sections()


def _options(section: str) -> set[str]:
    """Options of a section's table."""
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return {
        option
        for row in rows
        for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", row.split(" | ")[0])
    }


def test_the_docs_have_exactly_the_verbs_of_the_program() -> None:
    assert SECTIONS.keys() - GROUPS == VERBS.keys()


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_docs_have_exactly_the_options_of_a_verb(verb: str) -> None:
    there = {
        option
        for parameter in VERBS[verb].params
        if parameter.param_type_name == "option" and parameter.name != "help"
        for option in parameter.opts
    }
    assert _options(SECTIONS[verb]) == there


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_shows_every_default_that_the_docs_give(verb: str) -> None:
    rows = [line for line in SECTIONS[verb].splitlines() if line.startswith("| `")]
    with_default = {
        option
        for row in rows
        if "default:" in row
        for option in re.findall(r"--[a-z][\w-]*", row.split(" | ")[0])
    }
    for parameter in VERBS[verb].params:
        is_option = parameter.param_type_name == "option" and not parameter.is_flag
        if is_option and with_default.intersection(parameter.opts):
            shown = parameter.default is not None and parameter.show_default
            assert shown or "[default" in parameter.help, f"{verb} {parameter.opts}"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_default_is_not_hidden(verb: str) -> None:
    """A default that the program itself knows is shown in --help."""
    text = "".join(_help(verb).split())  # words are broken at the ends of lines
    for parameter in VERBS[verb].params:
        is_option = parameter.param_type_name == "option" and not parameter.is_flag
        if is_option and parameter.default not in (None, ()):
            assert parameter.show_default, f"{verb} {parameter.opts}"
            assert f"[default:{parameter.default}".replace(" ", "") in text


def test_the_table_of_verbs_lists_every_verb() -> None:
    rows = re.findall(r"^\| \[`(.+?)`\]", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [verb for verb in SECTIONS if verb not in GROUPS]
    assert set(rows) == set(VERBS)


def _help(verb: str) -> str:
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, [*verb.split(), "--help"])
    assert done.exit_code == 0
    return done.stdout


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_begins_with_examples_to_copy(verb: str) -> None:
    lines = _help(verb).splitlines()
    assert lines[0].startswith("  ")
    assert "apptell " in lines[0]
    assert len([line for line in lines[:2] if line.startswith("  ")]) == 2
    assert not any("Examples:" in line for line in lines)


def _pages() -> dict[str, str]:
    root = DOCS.parents[2]
    paths = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    assert DOCS in paths
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths}


def test_no_page_has_marks_of_a_merge() -> None:
    marks = re.compile(r"^(<<<<<<< |>>>>>>> |=======$)", re.MULTILINE)
    assert [name for name, text in _pages().items() if marks.search(text)] == []


def test_no_page_names_a_verb_of_a_group_that_is_not_there() -> None:
    named = re.compile(rf"\bapptell ({'|'.join(sorted(GROUPS))}) ([a-z]+)")
    found = {
        (name, " ".join(words)) for name, text in _pages().items() for words in named.findall(text)
    }
    assert {(name, verb) for name, verb in found if verb not in VERBS} == set()


def test_the_page_names_what_a_settings_file_of_the_current_directory_may_not_set() -> None:
    (rule,) = re.findall(
        r"^A file in the current directory .+?\n\n",
        DOCS.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    options = re.findall(r"`([a-z][a-z-]*)`", rule)
    assert sorted(options) == sorted(FORBIDDEN_HERE)
