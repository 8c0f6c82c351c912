"""Where records lie in the folder that ``apptell archive`` writes, and what it says of each stream.

``_apptell/streams/SENSOR.json`` says which files belong to a stream. Others may be left from an attempt that
did not end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

MANIFEST: Final = "_apptell/manifest.json"
STREAMS: Final = "_apptell/streams"
MAX_RECORD_BYTES: Final = 64 << 20
"""Bytes of a manifest or of what is said of a stream that are read at most."""
_DAY: Final = re.compile(r"day=-?[0-9]+-[0-9]{2}-[0-9]{2}")
_PART: Final = re.compile(r"[0-9a-f]{16}-[0-9]{5}\.parquet")


@dataclass(slots=True)
class StreamRecord:
    """What is known of a stream's output."""

    sensor: str
    key: str
    done: bool = False
    parts: list[str] = field(default_factory=list)
    """Paths of the Parquet files in the folder."""
    replaced: list[str] = field(default_factory=list)
    """Parts of the stream before it changed, to be deleted when the new ones are complete."""
    abandoned_keys: list[str] = field(default_factory=list)
    """Keys of attempts that were begun and never completed."""
    files: int = 0
    packets: int = 0
    flows: int = 0
    records: int = 0
    damage: str | None = None
    """What is wrong with the captures; the records before the damage are there."""

    @classmethod
    def parse(cls, found: Any) -> StreamRecord | None:
        """What the JSON of a stream says; None if it is not what ``apptell archive`` writes."""
        try:
            record = cls(**found)
        except TypeError:
            return None
        paths = (record.parts, record.replaced)
        is_valid = (
            isinstance(record.sensor, str)
            and isinstance(record.done, bool)
            and all(isinstance(each, list) for each in paths)
            and all(is_part(record.sensor, part) for each in paths for part in each)
        )
        return record if is_valid else None


def sensor_folder(sensor: str) -> str:
    """The folder of a sensor's records, named as Hive partitions are."""
    return f"sensor={_quoted(sensor)}"


def record_path(sensor: str) -> str:
    """The file that says what is known of a sensor's stream."""
    return f"{STREAMS}/{_quoted(sensor)}.json"


def is_part(sensor: str, path: Any) -> bool:
    """Whether a path is one of a stream's files of records: only such files are ever read or deleted."""
    parts = path.split("/") if isinstance(path, str) else ()
    return (
        len(parts) == 3
        and parts[0] == sensor_folder(sensor)
        and _DAY.fullmatch(parts[1]) is not None
        and _PART.fullmatch(parts[2]) is not None
    )


def _quoted(sensor: str) -> str:
    """A name as one component of a path, as Hive partitions are quoted."""
    quoted = quote(sensor, safe=" ()+,@")
    return quoted.replace(".", "%2E") if sensor in (".", "..") else quoted
