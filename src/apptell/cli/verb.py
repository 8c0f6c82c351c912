"""A verb's function in, its help and its exit code out: the same manners for every verb.

``--help`` opens with the examples that a verb's docstring ends with. Faults of the user are one line
on stderr and the error's exit code; a reader that closes the pipe ends a verb quietly.
"""

import os
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from apptell.cli import settings
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
        """Options, where they are not typed, from environment and file."""
        if not {"--help", "-h"}.intersection(args):
            try:
                settings.apply(ctx)
            except ApptellError as error:
                typer.echo(f"apptell: {error}", err=True)
                raise typer.Exit(error.exit_code) from None
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb and turns what may go wrong into an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except ApptellError as error:
            typer.echo(f"apptell: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("apptell: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # What is still buffered must go somewhere when the interpreter flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        return result


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
