"""Names of captures, files of records and archives in, tables of records out.

An archive is the folder that ``apptell archive`` writes (``verdicts.archive_layout``). What an attempt left
that did not end is never read.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet

from apptell.errors import CaptureError, UsageError
from apptell.files import open_without_links, readable
from apptell.verdicts.archive_layout import MANIFEST, MAX_RECORD_BYTES, STREAMS, StreamRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RECORDS: Final = (".parquet", ".jsonl")
"""Endings of files of records; any other file is a capture."""


def are_records(sources: Sequence[str]) -> bool:
    """Whether sources are records (files or archives), or captures.

    Raises:
        UsageError: they are both, or there are none.
    """
    kinds = {Path(each).suffix in RECORDS or _is_archive(Path(each)) for each in sources}
    if len(kinds) != 1:
        raise UsageError(
            "give captures, or records (.parquet, .jsonl, folders of an archive), not both"
        )
    return kinds.pop()


def read_all_records(sources: Sequence[str]) -> list[pa.Table]:
    """The records of files and archives; of live records, the verdicts without the ends of the same flows.

    Raises:
        CaptureError: a file cannot be read as records, or a stream of an archive is not complete.
    """
    tables: list[pa.Table] = []
    for source in map(Path, sources):
        if _is_archive(source):
            tables += _archived(source)
        else:
            tables.append(_read(source))
    return tables


def _is_archive(path: Path) -> bool:
    return path.is_dir() and (path / MANIFEST).is_file()


def _archived(folder: Path) -> Iterator[pa.Table]:
    """The records of each file. Captures of different sensors get different names, as have their clients."""
    n = 0
    for file in sorted((folder / STREAMS).glob("*.json")):
        stream = _stream(file)
        if not stream.done:
            raise CaptureError(
                f"{readable(folder)}: the records of {readable(stream.sensor)} are not complete; run "
                "apptell archive again"
            )
        for part in stream.parts:
            table = _read(folder / part)
            if "capture" in table.column_names:
                place = table.column_names.index("capture")
                sensor = pa.scalar(stream.sensor + "/")
                names = pc.binary_join_element_wise(sensor, table["capture"].cast(pa.string()), "")
                table = table.set_column(place, "capture", names)
            n += 1
            yield table
    if not n:
        raise CaptureError(f"{readable(folder)}: the archive has no records")


def _stream(file: Path) -> StreamRecord:
    """What an archive says of a stream."""
    try:
        with os.fdopen(open_without_links(file, os.O_RDONLY), "rb") as stream:
            found = json.loads(stream.read(MAX_RECORD_BYTES))
    except OSError as error:
        raise CaptureError(f"{readable(file)}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CaptureError(f"{readable(file)}: not valid JSON") from None
    record = StreamRecord.parse(found)
    if record is None:
        raise CaptureError(f"{readable(file)}: does not describe a stream of an archive")
    return record


def _read(path: Path) -> pa.Table:
    try:
        read = pa.parquet.read_table if path.suffix == ".parquet" else pa.json.read_json
        with path.open("rb") as stream:  # Arrow takes no path that is not UTF-8
            table = read(stream)
    except (OSError, pa.ArrowInvalid) as error:
        first = (str(error).splitlines() or [""])[0]
        raise CaptureError(f"{path}: cannot be read as records: {first}") from error
    if "event" in table.column_names:
        table = table.filter(pc.not_equal(table["event"].cast(pa.string()), "end"))
    return table
