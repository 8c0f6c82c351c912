"""A verb's messages in; text on the right stream out: data to stdout, the rest to stderr."""

import json
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from apptell.records.terminal import TerminalConsole, clean_line

_SAY_S: Final = 60.0


def note(text: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(text + "\n")


def complain(error: object) -> None:
    """What went wrong, in one line on stderr."""
    sys.stderr.write(clean_line(f"apptell: {error}") + "\n")


def command_line() -> str:
    """The command that is running, as it can be typed again."""
    return shlex.join(["apptell", *sys.argv[1:]])


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def report(
    found: Mapping[str, Any], text: Callable[[TerminalConsole], None], *, as_json: bool
) -> None:
    """A report on stdout: text for a terminal, one JSON object for a pipe or when asked for."""
    if as_json or not on_terminal():
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    else:
        text(TerminalConsole(sys.stdout))


@contextmanager
def until_interrupted(*, follow: bool) -> Iterator[threading.Event | None]:
    """While a capture is followed: an event that the first SIGINT or SIGTERM sets; the next acts as ever.

    Yields:
        None where nothing is followed.
    """
    if not follow:
        yield None
        return
    stop = threading.Event()
    before: dict[int, Any] = {}

    def end(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    for kind in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(kind) is not signal.SIG_IGN:  # as in a shell's background jobs
            before[kind] = signal.signal(kind, end)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress(words: str) -> Iterator[Callable[[float, str], None]]:
    """A bar on stderr while the block runs; where stderr is no terminal, a line a minute.

    Yields:
        A function of the share done, 0 to 1 (-1: not known), and of words beside the bar.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = TerminalConsole(sys.stderr)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[beside]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(words, total=None, beside="")

        said = time.monotonic()

        def show(done: float, beside: str) -> None:
            nonlocal said
            if not console.is_terminal:
                # For whoever looks into the log of a night.
                if time.monotonic() - said >= _SAY_S and beside:
                    said = time.monotonic()
                    note(f"{words}: {f'{done:.0%}, ' if done >= 0 else ''}{beside}")
            elif done < 0:
                bar.update(task, beside=beside)
            else:
                bar.update(task, total=1.0, completed=done, beside=beside)

        yield show
