"""Writes a verb's output: data to stdout, everything else to stderr."""

import json
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import UsageError
from apptell.files import readable
from apptell.records.terminal import TerminalConsole, clean_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PROGRESS_FORMS: Final = ("auto", "json")
_SAY_S: Final = 60.0
_LEAST_NAME: Final = 12
"""Characters of a column of names on a narrow terminal."""
_NOT_UTF_8: Final = re.compile("[\udc80-\udcff]")
"""How Python holds the bytes of a file's name that are not UTF-8 (PEP 383)."""


def _as_readable(found: re.Match[str]) -> str:
    """A byte of a file's name that is not UTF-8, as ``files.readable`` writes it, in JSON."""
    return f"\\\\x{ord(found[0]) - 0xDC00:02x}"


class _Form:
    """How a verb writes to stderr. A program runs one verb."""

    is_json: bool = False


def choose_progress(form: str) -> None:
    """Chooses the form of progress, notes and errors on stderr: ``auto``, or ``json`` for a JSON object a line.

    Raises:
        UsageError: another form.
    """
    if form not in PROGRESS_FORMS:
        raise UsageError(f"--progress {form!r} is neither {' nor '.join(PROGRESS_FORMS)}")
    _Form.is_json = form == "json"


def _event(kind: str, **facts: object) -> None:
    """Writes one line of JSON to stderr; text in it is ASCII, so that it cannot control a terminal."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    sys.stderr.write(json.dumps({"event": kind, "time": now, **facts}) + "\n")
    sys.stderr.flush()


def note(text: str) -> None:
    """Writes a note to stderr."""
    if _Form.is_json:
        _event("note", text=text)
    else:
        sys.stderr.write(text + "\n")


def complain(error: object) -> None:
    """Writes an error to stderr, in one line."""
    if _Form.is_json:
        _event("error", text=str(error))
    else:
        sys.stderr.write(clean_line(f"apptell: {error}") + "\n")


def command_line() -> str:
    """The command that is running, as text; it can be run again where every name is UTF-8."""
    return readable(shlex.join(["apptell", *sys.argv[1:]]))


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def report(
    found: Mapping[str, Any], text: Callable[[TerminalConsole], None], *, as_json: bool
) -> None:
    """Writes a report to stdout: text on a terminal, one JSON object in a pipe or when requested."""
    if as_json or not on_terminal():
        line = json.dumps(found, ensure_ascii=False)
        sys.stdout.write(_NOT_UTF_8.sub(_as_readable, line) + "\n")
    else:
        text(TerminalConsole(sys.stdout))


def print_table(table: "Table", console: "Console", least: Sequence[Sequence[int]] = ()) -> None:
    """Prints a table without cutting a number or its heading; numbers are the columns at the right edge.

    Where the terminal is too narrow, headings of numbers take a line for each word, columns of nothing but
    dashes are left out, then those of ``least``, and a note names the latter. Names are folded.

    Args:
        table: a table without a box.
        console: where it is printed.
        least: numbers of the columns that matter least, in groups that are left out one after the other.
    """
    groups = [[table.columns[i] for i in group] for group in least]
    for column in table.columns:
        column.no_wrap, column.overflow = column.justify == "right", "fold"
    if _least_width(table) > console.width:
        for column in table.columns:
            if column.no_wrap:
                column.header = str(column.header).replace(" ", "\n")
        table.columns = [each for each in table.columns if not {*map(str, each.cells)} <= {"-", ""}]
    left_out: list[str] = []
    for group in groups:
        if _least_width(table) > console.width:
            left_out += [
                str(each.header).replace("\n", " ") for each in group if each in table.columns
            ]
            table.columns = [each for each in table.columns if each not in group]
    console.print(table)
    if left_out:
        note(f"The terminal is too narrow for: {', '.join(left_out)} (--json has all).")


def _least_width(table: "Table") -> int:
    """Columns of a terminal that a table needs; one with names can be folded to a few."""
    widths = []
    for column in table.columns:
        texts = [str(column.header), *map(str, column.cells)]
        widest = max((len(line) for text in texts for line in text.split("\n")), default=0)
        widths.append(widest if column.no_wrap else min(widest, _LEAST_NAME))
    return sum(widths) + 2 * (len(widths) - 1)


@contextmanager
def until_interrupted(*, follow: bool) -> Iterator[threading.Event | None]:
    """While a capture is followed: an event that the first SIGINT or SIGTERM sets; later ones act as usual.

    Yields:
        None if nothing is followed.
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
    """A progress bar on stderr while the block runs; one line a minute if stderr is not a terminal.

    In the form ``json``, every step is a line.

    Yields:
        A function that takes the share done, 0 to 1 (-1: unknown), and a text beside the bar.
    """
    if _Form.is_json:
        began = time.monotonic()
        _event("begin", task=words)
        yield lambda done, beside: _event(
            "progress", task=words, done=round(done, 4) if done >= 0 else None, text=beside
        )
        _event("end", task=words, seconds=round(time.monotonic() - began, 3))
        return
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
                # so that a log shows the progress of a long run
                if time.monotonic() - said >= _SAY_S and beside:
                    said = time.monotonic()
                    note(f"{words}: {f'{done:.0%}, ' if done >= 0 else ''}{beside}")
            elif done < 0:
                bar.update(task, beside=beside)
            else:
                bar.update(task, total=1.0, completed=done, beside=beside)

        yield show
