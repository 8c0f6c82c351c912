"""Opens a path, folder, list, pipe, file object or network address as one ``CaptureReader``."""

from __future__ import annotations

import io
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from apptell.capture.byte_streams import GrowingStream, ObjectStream, Stop, open_file
from apptell.capture.capture_reader import CaptureReader, Part
from apptell.capture.columns import Columns
from apptell.capture.network import is_address, open_address
from apptell.capture.object_store import StoredObject, find_stored, local_path
from apptell.capture.stream_reader import NotACaptureError, StreamReader
from apptell.errors import CaptureError, UsageError
from apptell.files import readable

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from apptell.capture.window import ByteStream

BATCH_PACKETS: Final = 16_384
"""Most packets in one batch."""
_PEEK_BYTES: Final = 64 << 10
_STANDARD_INPUT: Final = "-"


def open_capture(
    source: str | Path | BinaryIO | Sequence[str | Path],
    *,
    follow: bool = False,
    batch_packets: int = BATCH_PACKETS,
    stop: Callable[[], bool] | threading.Event | None = None,
) -> CaptureReader:
    """Open what a source names, as one stream of packets.

    Args:
        source: a file; a folder, whose captures are detected by content, at any depth; several of both, which
            are read in the order of their first packets; ``-`` for standard input; a binary file object;
            ``s3://``, ``gs://``, ``hdfs://`` or ``file://`` of a file or folder; and, alone,
            ``pcap+tcp://HOST:PORT``, ``pcap+listen://[HOST]:PORT``, ``pcapdroid+udp://[HOST]:PORT`` or
            ``http://HOST:PORT/...``.
        follow: whether to wait for more at the end of a file that is still being written, until an interrupt
            from the keyboard or until ``stop`` returns true.
        batch_packets: most packets in one batch.
        stop: called while no bytes arrive, at least every 100 ms; the stream ends when it returns true.

    Returns:
        An iterator of PacketBatch. It raises CaptureError after everything that precedes the damage,
        which is nothing where a single file or stream is no capture.

    Raises:
        CaptureError: the source does not exist; of several, a file is not a capture, or a folder holds none.
        UsageError: ``follow`` with several files, no file at all, or a file object that gives text.
    """
    asked = Stop(stop)
    if batch_packets < 1:
        raise UsageError(f"batch_packets={batch_packets} is not 1 or more")
    if isinstance(source, str | Path):
        return _open_one(source, asked, follow=follow, batch_packets=batch_packets)
    if not isinstance(source, list | tuple):
        return _open_object(source, asked, follow=follow, batch_packets=batch_packets)
    if len(source) == 1:
        return _open_one(source[0], asked, follow=follow, batch_packets=batch_packets)
    if follow:
        raise UsageError("only a single file can be followed")
    if not source:
        raise UsageError("no capture is given")
    parts: list[tuple[int, Part]] = []
    skipped = 0
    for each in source:
        place = _located(each)
        found, not_captures = (
            _stored_parts(place, asked)
            if isinstance(place, StoredObject)
            else _parts_of(place, asked)
        )
        parts += found
        skipped += not_captures
    return _in_time_order(
        parts,
        f"{readable(Path(source[0]).name)} and {len(source) - 1} more",
        batch_packets,
        skipped,
    )


def is_at_rest(source: Any) -> bool:
    """Whether a source names only regular files and folders.

    Args:
        source: what ``open_capture`` takes.
    """
    for each in source if isinstance(source, list | tuple) else [source]:
        if not isinstance(each, str | os.PathLike):
            return False
        try:
            path = Path(each)
            if not path.is_dir() and not path.is_file():
                return False
        except (OSError, ValueError):  # no path
            return False
    return True


def _open_one(source: str | Path, stop: Stop, *, follow: bool, batch_packets: int) -> CaptureReader:
    if isinstance(source, str) and is_address(source):
        part = Part(source, lambda: open_address(source, stop))
        return CaptureReader([part], source, batch_packets=batch_packets)
    if str(source) == _STANDARD_INPUT:
        return _open_object(sys.stdin.buffer, stop, follow=follow, batch_packets=batch_packets)
    path = _located(source)
    if isinstance(path, StoredObject):
        if follow:
            raise UsageError(f"{path.name}: only a local file can be followed")
        if not path.is_folder:
            part = _stored_part(path, stop)
            return CaptureReader([part], part.name, batch_packets=batch_packets)
        parts, skipped = _stored_parts(path, stop)
        return _in_time_order(parts, path.name, batch_packets, skipped)
    if path.is_dir():
        if follow:
            raise UsageError(f"{readable(path.name)}: only a file can be followed, not a folder")
        parts, skipped = _parts_of(path, stop)
        return _in_time_order(parts, readable(path.resolve().name), batch_packets, skipped)
    if not path.exists():
        raise CaptureError(f"{readable(path.name)}: no such file")
    part = _file_part(path, readable(path.name), stop, follow=follow)
    return CaptureReader([part], part.name, batch_packets=batch_packets)


def _open_object(
    file: BinaryIO | Any, stop: Stop, *, follow: bool, batch_packets: int
) -> CaptureReader:
    if isinstance(file, io.TextIOBase):
        raise UsageError("a capture is read from a file opened in binary mode, not in text mode")
    is_input = file is getattr(sys.stdin, "buffer", None)
    given = getattr(file, "name", None)
    name = "-" if is_input else readable(Path(given).name) if isinstance(given, str) else "stream"
    stream: ByteStream = ObjectStream(file, stop, owned=False)
    if follow and not _is_pipe(file):
        stream = GrowingStream(stream, stop)
    return CaptureReader([Part(name, lambda: stream)], name, batch_packets=batch_packets)


def _located(source: str | Path) -> Path | StoredObject:
    """What a source names: a path of this machine, or an object or folder in a store.

    Raises:
        UsageError: the URI is not valid.
        CaptureError: the store has no such object.
    """
    path = source if isinstance(source, Path) else local_path(source)
    return path or find_stored(str(source))


def _is_pipe(file: BinaryIO | Any) -> bool:
    """Whether a file object is a pipe or socket, whose end is final."""
    try:
        mode = os.fstat(file.fileno()).st_mode
    except (AttributeError, OSError):  # no file of the system's behind it
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _file_part(path: Path, name: str, stop: Stop, *, follow: bool = False) -> Part:
    def open_it() -> ByteStream:
        stream = open_file(path, stop)
        return GrowingStream(stream, stop) if follow else stream

    return Part(name, open_it)


def _parts_of(path: Path, stop: Stop) -> tuple[list[tuple[int, Part]], int]:
    """Captures of a file or folder, each with its first packet's time; how many files are none.

    A capture without packets, or damaged before its first, has the time 0, and so does a file that is named
    and is none: it is damage when its turn comes, after which the others are read.

    Raises:
        CaptureError: a file that is named does not exist; a folder holds no capture.
    """
    if not path.is_dir():
        if not path.exists():
            raise CaptureError(f"{readable(path.name)}: no such file")
        part = _file_part(path, readable(path.name), stop)
        return [(_time_of_named(part), part)], 0
    files = (
        _file_part(file, readable(file.relative_to(path).as_posix()), stop)
        for file in _files_below(path)
    )
    return _captures_among(files, readable(path.name))


def _stored_parts(found: StoredObject, stop: Stop) -> tuple[list[tuple[int, Part]], int]:
    """As ``_parts_of``, for an object or a folder of objects in a store."""
    if not found.is_folder:
        part = _stored_part(found, stop)
        return [(_time_of_named(part), part)], 0
    try:
        objects = list(found.objects_below())
    except OSError as error:
        raise CaptureError(f"{found.name}: {error.strerror or error}") from None
    return _captures_among((_stored_part(each, stop) for each in objects), found.name)


def _stored_part(found: StoredObject, stop: Stop) -> Part:
    return Part(found.name, lambda: found.open(stop))


def _captures_among(files: Iterable[Part], folder: str) -> tuple[list[tuple[int, Part]], int]:
    """The captures among the files of a folder, each with its first packet's time; how many are none."""
    parts: list[tuple[int, Part]] = []
    skipped = 0
    for part in files:
        try:
            parts.append((_first_time_ns(part), part))
        except NotACaptureError:
            skipped += 1
    if not parts:
        others = f"{skipped} other file{'' if skipped == 1 else 's'}"
        raise CaptureError(f"{folder}: no capture in this folder, {others}")
    return parts, skipped


def _files_below(folder: Path) -> Iterator[Path]:
    """Regular files at any depth, in the order of their names."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(root, name)
            if path.is_file():
                yield path


def _time_of_named(part: Part) -> int:
    try:
        return _first_time_ns(part)
    except NotACaptureError:
        return 0


def _first_time_ns(part: Part) -> int:
    """Time of the first packet; 0 when there is none.

    Raises:
        NotACaptureError: the content is no capture.
    """
    try:
        stream = part.open()
    except OSError:
        return 0  # it is reported when its turn comes
    try:
        reader = StreamReader(stream, part.name, [], _PEEK_BYTES)
        return reader.first_time_ns(Columns(1)) or 0
    except NotACaptureError:
        raise
    except CaptureError:
        return 0
    finally:
        stream.close()


def _in_time_order(
    parts: list[tuple[int, Part]], name: str, batch_packets: int, skipped: int
) -> CaptureReader:
    ordered = [part for _, part in sorted(parts, key=lambda timed: timed[0])]
    return CaptureReader(ordered, name, batch_packets=batch_packets, files_skipped=skipped)
