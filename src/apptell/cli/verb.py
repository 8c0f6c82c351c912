"""A verb's function in; its help and its exit code out, the same way for every verb.

``--help`` opens with the examples that a verb's docstring ends with. The user's mistakes are one line
on stderr and the error's exit code; a reader that closes the pipe ends a verb quietly.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from apptell.cli import settings
from apptell.cli.screen import complain
from apptell.errors import ApptellError

INTERRUPTED = 130


class Verb(TyperCommand):
    """One verb of the command line."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Examples first, then usage, words and options."""
        words, _, examples = (self.help or "").partition("Examples:\n")
        formatter.write(f"{_indented(examples)}\n\n")
        self.help = words.rstrip()
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Options that are not on the command line, from the environment and the settings file."""
        if not {"--help", "-h"}.intersection(args):
            with exit_codes():
                settings.apply(ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb and turns what may go wrong into an exit code."""
        with exit_codes():
            result = super().invoke(ctx)
            sys.stdout.flush()
        return result


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turns what may go wrong into one line on stderr and an exit code.

    Raises:
        typer.Exit: something went wrong, or the reader of standard output has gone.
    """
    try:
        yield
    except ApptellError as error:
        complain(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        complain("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        raise typer.Exit(0) from None


def group(examples: str) -> type[TyperGroup]:
    """A group of verbs whose help opens with these lines."""

    class Group(TyperGroup):
        """A group of verbs."""

        def format_help(self, ctx: Any, formatter: Any) -> None:
            """Examples first, then usage and verbs."""
            formatter.write(f"{_indented(examples)}\n\n")
            super().format_help(ctx, formatter)

    return Group


def _indented(examples: str) -> str:
    return "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
