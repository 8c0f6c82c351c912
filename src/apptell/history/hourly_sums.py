"""Sums of large record files by hour, kept beside them, so that an overview of months need not read records.

They lie in ``FOLDER/.apptell-sums``, one Parquet file for each record file of ``LEAST_RECORDS`` or more. The
name holds the record file's size and time of change: sums of another version are not used. They can be
deleted at any time, and are made again.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from apptell.errors import OutputError
from apptell.files import PRIVATE, make_folder, new_file
from apptell.history.flow_sums import SECOND_NS, SUMS
from apptell.history.questions import GROUPINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from apptell.history.flow_sums import Steps
    from apptell.history.questions import Question
    from apptell.history.record_files import RecordFile

SUMS_FOLDER: Final = ".apptell-sums"
_FORM: Final = 3
"""Version of the content of a file of sums; those of another version are made again."""
_NAME: Final = re.compile(r".+\.[0-9a-f]+-[0-9a-f]+(-[0-9]+)?\.parquet")
"""Of a file of sums: the record file's name, its size in bytes, its time of change in ns, and ``_FORM``."""
LEAST_RECORDS: Final = 100_000
"""Records of a file from which its sums are kept."""
HOUR_NS: Final = 3600 * SECOND_NS
HOURLY: Final = tuple(GROUPINGS)
"""Groupings with kept sums."""


def can_use_sums(question: Question, by: str, steps: Steps) -> bool:
    """Whether sums by hour answer an overview: a filter may be only on what it is grouped by."""
    is_whole = question.filters.keys() <= {by} and not question.text
    return is_whole and by in HOURLY and steps.step_ns % HOUR_NS == 0


def split_hours(question: Question) -> tuple[Question, list[Question]]:
    """The whole hours of a question's time, and what is left of it at both ends."""
    start, end = question.from_ns, question.to_ns
    first = None if start is None else -(-start // HOUR_NS) * HOUR_NS
    last = None if end is None else end // HOUR_NS * HOUR_NS
    if first is not None and last is not None and first >= last:
        return replace(question, to_ns=start), [question]
    edges = []
    if first is not None and first != start:
        edges.append(replace(question, to_ns=first))
    if last is not None and last != end:
        edges.append(replace(question, from_ns=last))
    return replace(question, from_ns=first, to_ns=last), edges


def sums_sql(records: str) -> str:
    """SQL of the sums of some records, for all groupings of ``HOURLY``."""
    parts = []
    for name in HOURLY:
        label = "any_value(app_name)" if name == "app" else "CAST(NULL AS VARCHAR)"
        parts.append(
            f"SELECT '{name}' AS grouping, epoch_ns(time) // {HOUR_NS} AS hour, "
            f"{GROUPINGS[name]} AS key, {label} AS label, {SUMS} FROM {records} GROUP BY ALL"
        )
    return " UNION ALL ".join(parts)


class SumsFolder:
    """The kept sums of a folder of records.

    Args:
        folder: with the record files.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / SUMS_FOLDER

    def _place(self, file: RecordFile) -> Path:
        name = file.path.name.removesuffix(".parquet")
        return self.path / f"{name}.{file.n_bytes:x}-{file.modified_ns:x}-{_FORM}.parquet"

    def of(self, files: Iterable[RecordFile]) -> Mapping[RecordFile, Path]:
        """The sums of those files that have some."""
        try:
            there = {path.name: path for path in self.path.iterdir() if path.is_file()}
        except OSError:
            return {}
        places = ((file, self._place(file)) for file in files if file.n_records >= LEAST_RECORDS)
        return {
            file: place
            for file, place in places
            if place.name in there and not there[place.name].is_symlink()
        }

    def missing(self, files: Iterable[RecordFile]) -> list[RecordFile]:
        """Large files without sums."""
        listed = [file for file in files if file.n_records >= LEAST_RECORDS]
        known = self.of(listed)
        return [file for file in listed if file not in known]

    def write(self, file: RecordFile, sums: pa.Table) -> None:
        """Keeps the sums of a file.

        Raises:
            OutputError: the folder cannot be written.
        """
        if self.path.is_symlink():
            raise OutputError(f"{self.path}: is a symbolic link")
        make_folder(self.path)
        with new_file(self._place(file), mode=PRIVATE) as stream, _writer(stream, sums) as writer:
            for name in HOURLY:  # a row group each, so that others are skipped
                chosen = pa.compute.equal(sums.column("grouping"), name)
                writer.write_table(sums.filter(chosen), 1 << 20)

    def prune(self, files: Iterable[RecordFile]) -> int:
        """Deletes sums whose record file is gone or has changed; returns their number.

        Other files of the folder are kept, and so is all that is behind a symbolic link.
        """
        kept = {self._place(file).name for file in files}
        try:
            there = [] if self.path.is_symlink() else list(self.path.iterdir())
        except OSError:
            return 0
        old = [path for path in there if _NAME.fullmatch(path.name) and path.name not in kept]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)


def _writer(stream: Any, sums: pa.Table) -> pq.ParquetWriter:
    return pq.ParquetWriter(stream, sums.schema, compression="zstd")
