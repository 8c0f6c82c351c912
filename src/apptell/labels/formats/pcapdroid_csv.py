"""PCAPdroid's list of connections beside a capture: CSV of all three generations.

``IPProto,SrcIP,SrcPort,DstIp,DstPort,UID,App[,PackageName],Proto,Status,Info,BytesSent,BytesRcvd,PktsSent,
PktsRcvd,FirstSeen,LastSeen[,Malicious]``. Nothing is quoted and App and Info may hold commas, so a line is
taken apart from both ends. Times are epoch milliseconds before version 1.7.0, ISO 8601 with zone after.
Lists are long: they are read by columns of some thousand lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apptell.errors import LabelError
from apptell.labels import fields
from apptell.labels.format import LogFormat
from apptell.labels.naming import label_of
from apptell.labels.text_files import TextFile, text_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.labels.log import Lines
    from apptell.labels.options import LabelOptions

_HEAD: Final = "IPProto,SrcIP,SrcPort,"
_BLOCK_CHARS: Final = 1 << 21
_LEFT: Final = 6
"""Fields before App."""
_RIGHT: Final = 6
"""Fields behind Info, without Malicious."""
_MOST_LATER: Final = 8
"""Fields that may stand behind these: Malicious, and what later versions may add."""
_MOMENT: Final = pa.timestamp("us", "UTC")
_STATUS: Final = re.compile(
    r"^(new|connecting|active|connected|open|closed|error|unreachable|reset|"
    r"socket error|client error|closing|unknown)$",
    re.IGNORECASE,
)
# A package has two parts at least, each begins with a letter; "android" is the one exception.
_PACKAGE: Final = re.compile(r"^(?:[A-Za-z]\w*(?:\.[A-Za-z]\w*)+|android|root|netd)$")
_TIME: Final = (
    r"^\s*(?:[0-9]{10,16}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9]{2}:?[0-9]{2}))\s*$"
)
_MAX_DIGITS: Final = 20
"""Of a counter."""
_MILLISECONDS: Final = re.compile(r"[0-9]{10,16}")


class PcapdroidCsv(LogFormat):
    """A list of connections: one line each, with its beginning and its end."""

    name: ClassVar[str] = "pcapdroid-csv"
    files: ClassVar[str] = "captures with PCAPdroid's list of connections (.csv) beside them"

    def is_log(self, log: TextFile, options: LabelOptions) -> bool:  # noqa: ARG002
        """Whether the first line is the list's."""
        return is_pcapdroid_csv(log.first_line)

    def read_log(self, path: Path, lines: Lines, options: LabelOptions) -> None:
        """Adds the connections of a list."""
        read_pcapdroid_csv(path, lines, options.rename)


def is_pcapdroid_csv(first_line: str) -> bool:
    """Whether a file's first line is that of a list of connections (also a translated header)."""
    return first_line.startswith(_HEAD)


def read_pcapdroid_csv(path: Path, lines: Lines, rename: Mapping[str, str] | None = None) -> None:
    """Adds the connections of a list; lines that are not of the format are passed over.

    Raises:
        LabelError: the file cannot be read, or is no such list.
    """
    labels: dict[tuple[int, str, str | None], str | None] = {}
    for block in _blocks(path):
        for number, fault in block.faults:
            lines.pass_over(number, fault)
        for uid, title, package in set(block.owners) - labels.keys():
            labels[uid, title, package] = label_of(
                uid=uid, package=package, name=title or None, rename=rename
            )
        apps = [labels[owner] for owner in block.owners]
        lines.extend(
            block.first_ns, block.last_ns, block.protocol, block.source, block.target, apps
        )


@lru_cache(maxsize=16)
def packages_of(paths: tuple[Path, ...]) -> dict[int, tuple[str, str]]:
    """Title and package by uid, where the lists have packages (since 1.7.4).

    Raises:
        LabelError: a file cannot be read, or is no such list.
    """
    packages: dict[int, tuple[str, str]] = {}
    for path in paths:
        for block in _blocks(path):
            for uid, title, package in block.owners:
                if package is not None:
                    packages.setdefault(uid, (title, package))
    return packages


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines of a list as columns, and what is wrong with those that are left out."""

    first_ns: NDArray[np.int64]
    last_ns: NDArray[np.int64]
    protocol: NDArray[np.int64]
    source: tuple[list[str], NDArray[np.int64]]
    """Addresses and ports."""
    target: tuple[list[str], NDArray[np.int64]]
    owners: list[tuple[int, str, str | None]]
    """Uid, title and package."""
    faults: list[tuple[int, str]]
    """Number of a line in its file, and why it is none of the list."""


def _blocks(path: Path) -> Iterator[_Block]:
    """The lines behind the header, some thousand at a time.

    Raises:
        LabelError: the file cannot be read, or is no such list.
    """
    lines = text_lines(path)
    head = next(lines, "")
    if not is_pcapdroid_csv(head):
        raise LabelError(f"{path}: not PCAPdroid's list of connections (first line {head[:60]!r})")
    has_package = "PackageName" in head.split(",")
    texts: dict[int, str] = {}
    n_chars = 0
    for number, line in enumerate(lines, 2):
        if line.strip():
            texts[number] = line
            n_chars += len(line)
        if n_chars > _BLOCK_CHARS:
            yield _block(texts, has_package=has_package)
            texts, n_chars = {}, 0
    if texts:
        yield _block(texts, has_package=has_package)


def _block(lines: dict[int, str], *, has_package: bool) -> _Block:
    """Lines taken apart: six fields from the left, six from the right, the rest by what it is."""
    cells = _Cells(list(lines.values()))
    first_ns, last_ns = cells.times(-2), cells.times(-1)
    apps, app = cells.parsed(cells.middle(), partial(_app, has_package=has_package))
    protocol, source_port, target_port = (
        cells.integers(place, partial(fields.integer, least=0, most=most))
        for place, most in ((0, fields.MAX_PROTOCOL), (2, fields.MAX_PORT), (4, fields.MAX_PORT))
    )
    uid = cells.integers(5, fields.uid)
    kept = np.flatnonzero(cells.fault == "")
    source, target = (cells.texts(place).take(kept).to_pylist() for place in (1, 3))
    owners = zip(uid[kept].tolist(), app[kept].tolist(), strict=True)
    numbers = list(lines)
    return _Block(
        first_ns[kept],
        last_ns[kept],
        protocol[kept],
        (source, source_port[kept]),
        (target, target_port[kept]),
        [(uid, *apps[app]) for uid, app in owners],
        [(numbers[row], why) for row, why in enumerate(cells.fault) if why],
    )


class _Cells:
    """The fields of lines with ASCII digits, told by their place from the left, or below 0 from the right.

    ``fault`` has for each line why it is none of the list, or is empty. Fields of a faulty line mean nothing.
    """

    def __init__(self, lines: list[str]) -> None:
        pieces = pc.split_pattern(pa.array(lines, pa.string()), ",")
        # The name of an app keeps its own digits, which are no commas and so at the same places.
        plain = pa.array(map(fields.ascii_digits, lines), pa.string())
        self._own_cells = pieces.values
        self._cells = pc.split_pattern(plain, ",").values
        offsets = np.asarray(pieces.offsets, dtype=np.int64)
        self._start, self._stop = offsets[:-1], offsets[1:].copy()
        self.fault: NDArray[Any] = np.full(len(lines), "", dtype=object)
        self._refuse(self._stop - self._start <= _LEFT, "too few fields")
        for _ in range(_MOST_LATER):
            later = (self._stop - self._start > _LEFT + _RIGHT) & ~self._is_time(-1)
            if not later.any():
                break
            self._stop -= later
        self._refuse(self._stop - self._start < _LEFT + _RIGHT, "no times")
        self._refuse(~self._is_time(-1), "no times")
        for counter in range(-_RIGHT, -2):
            self._refuse(~self._is_counter(counter), "no counters")

    def texts(self, place: int) -> pa.Array:
        """One field of each line."""
        at = self._start + place if place >= 0 else self._stop + place
        return self._cells.take(pa.array(np.clip(at, 0, len(self._cells) - 1)))

    def middle(self) -> pa.Array:
        """What stands between the fields that are counted from both ends, as it is in the list."""
        start = self._start + _LEFT
        count = np.maximum(self._stop - _RIGHT - start, 0)
        offsets = np.concatenate([[0], np.cumsum(count)])
        at = np.repeat(start - offsets[:-1], count) + np.arange(offsets[-1])
        cells = self._own_cells.take(pa.array(at))
        return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), cells), ",")

    def times(self, place: int) -> NDArray[np.int64]:
        """A column of times in ns since 1970."""
        try:
            moments = np.asarray(self.texts(place).cast(_MOMENT).cast(pa.int64()), dtype=np.int64)
        except pa.ArrowInvalid:  # not ISO 8601 alone
            return self.integers(place, _time_ns)
        if len(moments) and not 0 <= moments.min() <= moments.max() <= fields.MAX_TIME_NS // 1000:
            return self.integers(place, _time_ns)
        return moments * 1000

    def integers(self, place: int, parse: Callable[[str], int]) -> NDArray[np.int64]:
        """A column of numbers."""
        found, at = self.parsed(self.texts(place), parse)
        return np.array([value or 0 for value in found], dtype=np.int64)[at]

    def parsed(
        self, texts: pa.Array, parse: Callable[[str], Any]
    ) -> tuple[list[Any], NDArray[np.int64]]:
        """What each different text says (None where it is a fault), and which of these a line has."""
        coded = texts.dictionary_encode()
        at = coded.indices.to_numpy()
        found: list[Any] = []
        why = np.full(len(coded.dictionary), "", dtype=object)
        for text in coded.dictionary.to_pylist():
            try:
                found.append(parse(text))
            except ValueError as error:
                why[len(found)] = str(error)
                found.append(None)
        self._refuse(why[at] != "", why[at])
        return found, at

    def _is_time(self, place: int) -> NDArray[np.bool_]:
        return _booleans(pc.match_substring_regex(self.texts(place), _TIME))

    def _is_counter(self, place: int) -> NDArray[np.bool_]:
        texts = pc.ascii_trim_whitespace(self.texts(place))
        is_short = pc.less_equal(pc.binary_length(texts), _MAX_DIGITS)
        return _booleans(pc.and_(pc.ascii_is_decimal(texts), is_short))

    def _refuse(self, wrong: NDArray[np.bool_], why: str | NDArray[Any]) -> None:
        """Notes why lines are none of the list, where it is not known yet."""
        self.fault = np.where(wrong & (self.fault == ""), why, self.fault)


def _booleans(values: pa.BooleanArray) -> NDArray[np.bool_]:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _app(text: str, *, has_package: bool) -> tuple[str, str | None]:
    """App and package out of ``App[,PackageName],Proto,Status,Info``, commas in App and in Info.

    The anchor is Status, one of few words; Info's commas come after it, App's before it.
    """
    middle = text.split(",")
    if len(middle) < (4 if has_package else 3):
        raise ValueError("too few fields")
    least = 3 if has_package else 2
    at = next((i for i in range(least, len(middle)) if _STATUS.match(middle[i].strip())), None)
    if at is None:  # a translated status: take the layout without commas in App
        at = least
    if not has_package:
        return ",".join(middle[: at - 1]).strip(), None
    package = middle[at - 2].strip()
    return ",".join(middle[: at - 2]).strip(), package if _PACKAGE.match(package) else None


def _time_ns(text: str) -> int:
    """Epoch milliseconds, or ISO 8601 with zone, as ns since 1970 UTC."""
    text = text.strip()
    if _MILLISECONDS.fullmatch(text):
        return fields.milliseconds_ns(text)
    return fields.iso_ns(text)
