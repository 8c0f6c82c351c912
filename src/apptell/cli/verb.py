"""Help and exit codes, in the same way for every verb.

``--help`` begins with the examples at the end of a verb's docstring. A user's mistake gives one line
on stderr and the error's exit code. A verb ends quietly if the reader of its pipe closes it.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from apptell.cli import settings
from apptell.cli.late_coercion import convert_late
from apptell.cli.light_imports import without_unused
from apptell.cli.remedies import remedy
from apptell.cli.screen import complain
from apptell.errors import ApptellError, UsageError

INTERRUPTED = 130


class Verb(TyperCommand):
    """One verb of the command line."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Writes examples, usage, description and options."""
        words, _, examples = (self.help or "").partition("Examples:\n")
        formatter.write(f"{_indented(examples)}\n\n")
        self.help = words.rstrip()
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Fills in options that are not on the command line, from environment and settings file."""
        if not {"--help", "-h"}.intersection(args):
            with exit_codes():
                settings.apply(ctx)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """Arguments and options, also ``--help``."""
        return convert_late(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb and turns errors into an exit code."""
        explained = exit_codes(lambda error: _explanation(ctx, error))
        with without_unused(self.name), explained:
            result = super().invoke(ctx)
            sys.stdout.flush()
        return result


@contextmanager
def exit_codes(explain: Callable[[ApptellError], str] = lambda _: "") -> Iterator[None]:
    """Turns errors into one line on stderr and an exit code.

    Args:
        explain: adds something to what an error says.

    Raises:
        typer.Exit: something went wrong, or the reader of standard output has gone.
    """
    try:
        yield
    except ApptellError as error:
        complain(f"{error}{explain(error)}")
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        complain("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        raise typer.Exit(0) from None


def _explanation(context: Any, error: ApptellError) -> str:
    """What a verb adds to an error: where a wrong setting comes from, or else the option that helps."""
    place = (
        settings.explain(context, str(error), error.argument)
        if isinstance(error, UsageError)
        else ""
    )
    return place or remedy(context, error)


@contextmanager
def ends_at_once(is_needed: Callable[[], bool]) -> Iterator[None]:
    """Ends the process behind the block, with the block's exit code, where ``is_needed`` says so.

    Python's own way to end takes a library's threads away under it, and ONNX Runtime then aborts.

    Raises:
        typer.Exit: the block failed, and the process can end as usual.
    """
    code = 0
    try:
        with exit_codes():
            yield
    except typer.Exit as end:
        code = end.exit_code
    if is_needed():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    if code:
        raise typer.Exit(code)


def group(examples: str) -> type[TyperGroup]:
    """A group of verbs whose help begins with these examples."""

    class Group(TyperGroup):
        """A group of verbs."""

        def get_params(self, ctx: Any) -> list[Any]:
            """Options, also ``--help``."""
            return convert_late(super().get_params(ctx))

        def format_help(self, ctx: Any, formatter: Any) -> None:
            """Writes examples, usage and verbs."""
            formatter.write(f"{_indented(examples)}\n\n")
            super().format_help(ctx, formatter)

    return Group


def _indented(examples: str) -> str:
    return "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
