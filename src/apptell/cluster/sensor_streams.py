"""Sources in, streams out: the captures of each sensor, and a fingerprint of their files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from apptell.capture.object_store import find_stored, local_path, shown_uri
from apptell.errors import CaptureError, UsageError
from apptell.files import readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_EACH: Final = "*"
"""The last component of a source that stands for each entry of a folder."""


@dataclass(frozen=True, slots=True)
class SensorStream:
    """The captures of one sensor, read in time order by one worker."""

    sensor: str
    """Its name: the last component of the path, unique among the streams of a run."""
    source: str = field(repr=False)
    """An absolute path or a URI, as ``open_capture`` takes it; it can hold a password."""
    files: tuple[tuple[str, int, int], ...]
    """Name, size in bytes and time of change in ns of each file."""

    def key(self, settings: str) -> str:
        """16 hexadecimal digits that change with the files and with the settings of the run."""
        content = json.dumps([settings, self.sensor, self.files]).encode()
        return hashlib.sha256(content).hexdigest()[:16]


def find_streams(sources: Sequence[str]) -> list[SensorStream]:
    """The streams that sources name: each source is one.

    Args:
        sources: paths or URIs of captures or folders of captures. A source that ends in ``/*`` stands for
            each entry of the folder before it.

    Raises:
        CaptureError: a source does not exist or cannot be listed.
        UsageError: two sources have the same name, or one cannot be read twice.
    """
    found: dict[str, SensorStream] = {}
    for source in sources:
        for each in _expanded(source):
            stream = _stream(each)
            if stream.sensor in found:
                raise UsageError(
                    f"two streams are called {stream.sensor}: rename one, or put their captures in one folder"
                )
            found[stream.sensor] = stream
    return list(found.values())


def _expanded(source: str) -> Iterator[str]:
    path = local_path(source)
    if path is not None:
        if path.name != _EACH:
            yield source
            return
        try:
            yield from (str(entry) for entry in sorted(path.parent.iterdir()))
        except OSError as error:
            raise CaptureError(f"{readable(path.parent)}: {error.strerror}") from None
        return
    parts = urlsplit(source)
    folder, _, last = parts.path.rpartition("/")
    if last != _EACH:
        yield source
        return
    for name in _entries(urlunsplit(parts._replace(path=folder))):
        yield urlunsplit(parts._replace(path=f"{folder}/{name}"))


def _entries(uri: str) -> list[str]:
    from pyarrow import fs

    place = find_stored(uri)
    try:
        infos = place.file_system.get_file_info(fs.FileSelector(place.path))
    except OSError as error:
        raise CaptureError(f"{shown_uri(uri)}: {readable(str(error))}") from None
    return sorted(PurePosixPath(info.path).name for info in infos)


def _stream(source: str) -> SensorStream:
    path = local_path(source)
    if path is None:
        place = find_stored(source)
        try:
            objects = list(place.objects_below()) if place.is_folder else [place]
        except OSError as error:
            raise CaptureError(f"{place.name}: {readable(str(error))}") from None
        files = tuple((each.name, each.size_bytes or 0, each.modified_ns or 0) for each in objects)
        return SensorStream(place.name, source, files)
    try:
        path = path.resolve(strict=True)
        paths = sorted(path.rglob("*")) if path.is_dir() else [path]
        files = tuple(_described(each, path) for each in paths if each.is_file() or each == path)
    except OSError as error:
        raise CaptureError(f"{readable(path.name)}: {error.strerror}") from None
    return SensorStream(readable(path.name), str(path), files)


def _described(file: Path, folder: Path) -> tuple[str, int, int]:
    if not file.is_file():
        raise UsageError(
            f"{readable(file.name)}: only files and folders can be shared among workers"
        )
    status = file.stat()
    return readable(file.relative_to(folder).as_posix()), status.st_size, status.st_mtime_ns
