"""Names of captures, files of records and archives in, tables of records out.

An archive is the folder that ``apptell archive`` writes. Which of its files belong to it is read from
``_apptell/streams/SENSOR.json``, so that what an attempt left that did not end is never read.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet

from apptell.errors import CaptureError, UsageError
from apptell.files import open_without_links, readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RECORDS: Final = (".parquet", ".jsonl")
"""Endings of files of records; any other file is a capture."""
_MANIFEST: Final = Path("_apptell", "manifest.json")
_STREAMS: Final = Path("_apptell", "streams")
_PART: Final = re.compile(r"sensor=[^/\0]+/day=[^/\0]+/[0-9a-f]{16}-[0-9]{5}\.parquet")
_MAX_JSON_BYTES: Final = 64 << 20


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
    return path.is_dir() and (path / _MANIFEST).is_file()


def _archived(folder: Path) -> Iterator[pa.Table]:
    """The records of each file. Captures of different sensors get different names, as have their clients."""
    n = 0
    for file in sorted((folder / _STREAMS).glob("*.json")):
        stream = _stream(file)
        if not stream["done"]:
            raise CaptureError(
                f"{readable(folder)}: the records of {readable(stream['sensor'])} are not complete; run "
                "apptell archive again"
            )
        for part in stream["parts"]:
            table = _read(folder / part)
            if "capture" in table.column_names:
                place = table.column_names.index("capture")
                sensor = pa.scalar(stream["sensor"] + "/")
                names = pc.binary_join_element_wise(sensor, table["capture"].cast(pa.string()), "")
                table = table.set_column(place, "capture", names)
            n += 1
            yield table
    if not n:
        raise CaptureError(f"{readable(folder)}: the archive has no records")


def _stream(file: Path) -> dict[str, Any]:
    """What an archive says of a stream: ``sensor``, ``done`` and ``parts``."""
    try:
        with os.fdopen(open_without_links(file, os.O_RDONLY), "rb") as stream:
            found = json.loads(stream.read(_MAX_JSON_BYTES))
    except OSError as error:
        raise CaptureError(f"{readable(file)}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CaptureError(f"{readable(file)}: not valid JSON") from None
    if not (
        isinstance(found, dict)
        and isinstance(found.get("sensor"), str)
        and isinstance(found.get("done"), bool)
        and isinstance(found.get("parts"), list)
        and all(isinstance(part, str) and _PART.fullmatch(part) for part in found["parts"])
    ):
        raise CaptureError(f"{readable(file)}: does not describe a stream of an archive")
    return found


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
