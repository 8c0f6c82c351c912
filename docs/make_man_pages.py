"""Makes a man page for each verb out of its help.

    python docs/make_man_pages.py -o ~/.local/share/man/man1

Source of the format: man-pages(7) and groff_man(7).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from apptell._version import __version__
from apptell.cli.app import app


def main() -> None:
    """Writes ``apptell.1`` and ``apptell-VERB.1``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    write(parser.parse_args().output)


def write(folder: Path) -> None:
    """Writes the pages into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / f"{name}.1").write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """The pages by their names, without the section."""
    root = typer.main.get_command(app)
    verbs = dict(_verbs(root, ("apptell",)))
    names = ["-".join(words) for words in verbs]
    see_also = ", ".join(f"\\fB{_escaped(name)}\\fR(1)" for name in names)
    first = (
        _head("apptell", "identify the apps behind network traffic")
        + f".SH SYNOPSIS\n\\fBapptell\\fR \\fIVERB\\fR [\\fIOPTION\\fR]...\n"
        + f".SH DESCRIPTION\n{_escaped((root.help or '').split('Examples:')[0].strip())}\n"
        + ".SH OPTIONS\n"
        + _options(root)
        + f".SH SEE ALSO\n{see_also}\n"
    )
    found = {"apptell": first}
    for words, verb in verbs.items():
        found["-".join(words)] = _page(words, verb)
    return found


def _verbs(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _verbs(inner, (*words, name))
    if not hasattr(command, "commands"):
        yield words, command


def _page(words: tuple[str, ...], verb: Any) -> str:
    text, _, examples = (verb.help or "").partition("Examples:\n")
    first, *paragraphs = text.strip().split("\n\n")
    usage = " ".join(
        parameter.metavar or parameter.name.upper()
        for parameter in verb.params
        if parameter.param_type_name == "argument"
    )
    lines = "\n.br\n".join(_escaped(line.strip()) for line in examples.strip().splitlines())
    body = "\n.PP\n".join(_escaped(" ".join(each.split())) for each in (first, *paragraphs))
    return (
        _head("-".join(words), first.split(". ")[0].rstrip(".").lower())
        + f".SH SYNOPSIS\n\\fB{' '.join(words)}\\fR {_escaped(usage)} [\\fIOPTION\\fR]...\n"
        + f".SH DESCRIPTION\n{body}\n"
        + f".SH OPTIONS\n{_options(verb)}"
        + f".SH EXAMPLES\n{lines}\n"
        + ".SH SEE ALSO\n\\fBapptell\\fR(1)\n"
    )


def _head(name: str, what: str) -> str:
    title = f'.TH "{_escaped(name.upper())}" "1" "" "apptell {__version__}" "User Commands"\n'
    return title + f".SH NAME\n{_escaped(name)} \\- {_escaped(' '.join(what.split()))}\n"


def _options(command: Any) -> str:
    written = []
    for parameter in command.params:
        if parameter.param_type_name != "option" or parameter.hidden:
            continue
        names = ", ".join(f"\\fB{_escaped(name)}\\fR" for name in parameter.opts)
        value = "" if parameter.is_flag else f" \\fI{_escaped(parameter.metavar or 'VALUE')}\\fR"
        written.append(
            f".TP\n{names}{value}\n{_escaped(' '.join((parameter.help or '').split()))}\n"
        )
    return "".join(written)


def _escaped(text: str) -> str:
    """Text for roff: backslashes and hyphens are themselves, and no line begins a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in text.split("\n"))


if __name__ == "__main__":
    main()
