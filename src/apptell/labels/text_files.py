"""Reads text files of unknown content: lines, CSV records and JSON objects, each of bounded size.

A line that is too long, a quote that is never closed or a deeply nested value costs one line, not the file.
"""

from __future__ import annotations

import csv
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_HEAD_BYTES: Final = 4096
_MAX_LINE_CHARS: Final = 65_536
"""Of a longer line the rest is passed over: a reader then finds too few fields."""
_MAX_QUOTED_LINES: Final = 8
"""Lines that one quoted field may span; a quote that is open for longer is a stray one."""


class TextFile:
    """A text file and its beginning, which is read once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def head(self) -> str:
        """The first 4,096 bytes as text; empty when the file cannot be read."""
        try:
            with self.path.open("rb") as file:
                return file.read(_HEAD_BYTES).decode("utf-8", errors="replace").lstrip("\ufeff")
        except OSError:
            return ""

    @property
    def first_line(self) -> str:
        """The first line as text."""
        return self.head.split("\n", 1)[0].rstrip("\r")


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file without their ends, those that are too long cut.

    Raises:
        LabelError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
            while line := file.readline(_MAX_LINE_CHARS):
                rest = line
                while len(rest) == _MAX_LINE_CHARS and not rest.endswith("\n"):
                    rest = file.readline(_MAX_LINE_CHARS)
                yield line.removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise LabelError(f"{path}: cannot be read: {error.strerror}") from error


def csv_records(lines: Iterable[str], delimiter: str = ",") -> Iterator[list[str]]:
    """The fields of each record; a quoted field may hold line breaks.

    Where a quote is still open after eight lines, it is taken for a stray character: its line becomes a
    record by itself, and reading goes on with the line behind it.
    """
    held: list[str] = []
    waiting = iter(lines)
    while True:
        if not held:
            line = next(waiting, None)
            if line is None:
                return
            held.append(line)
        n = 1
        is_open = held[0].count('"') % 2 == 1
        while is_open and n < _MAX_QUOTED_LINES:
            if n == len(held):
                line = next(waiting, None)
                if line is None:
                    break
                held.append(line)
            is_open = held[n].count('"') % 2 == 0
            n += 1
        record = None if is_open else _record("\n".join(held[:n]), delimiter)
        if record is None:
            n, record = 1, _record(held[0], delimiter) or []
        yield record
        del held[:n]


def _record(text: str, delimiter: str) -> list[str] | None:
    """The fields of one record; None where it has a line break outside of quotes or too long a field."""
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return None


def json_object(text: str) -> dict[str, Any]:
    """The object that a JSON text is.

    Raises:
        ValueError: it is not JSON, not an object, or nested too deeply.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - a fault of the file, not of the caller
    return found
