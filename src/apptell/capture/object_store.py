"""Reads captures from object stores and file systems that Arrow knows, named by a URI such as ``s3://``.

Bytes are read in ranged requests, and from the second block on a thread reads ahead, so that decoding does not
wait for the network.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from apptell.errors import CaptureError, UsageError
from apptell.files import readable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apptell.capture.byte_streams import Stop

SCHEMES: Final = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "file")
"""Schemes of the URIs that are read through Arrow's file systems."""
_BLOCK_BYTES: Final = 4 << 20
"""Bytes of one request from the second request on; the first one is as long as the first read."""
_BLOCKS_AHEAD: Final = 3


def is_stored_object(source: str) -> bool:
    """Whether a source is the URI of an object or folder in a store."""
    return source.partition("://")[0].lower() in SCHEMES and "://" in source


def local_path(source: str) -> Path | None:
    """The path that a source names if it is a file or folder of this machine; None for other URIs.

    Raises:
        UsageError: a ``file://`` URI names another host.
    """
    if not is_stored_object(source):
        return Path(source)
    parts = urlsplit(source)
    if parts.scheme != "file":
        return None
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{shown_uri(source)}: the file of another host")
    return Path(unquote(parts.path))


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object, or a folder of objects, in a store."""

    file_system: Any
    """A ``pyarrow.fs.FileSystem``."""
    path: str
    """Its path in the file system."""
    name: str
    """Its last component, as messages and flows show it. The URI is not shown: it can hold a password."""
    is_folder: bool
    size_bytes: int | None = None
    modified_ns: int | None = None

    def open(self, stop: Stop) -> StoredStream:
        """The object's bytes.

        Raises:
            OSError: it cannot be opened.
        """
        return StoredStream(self.file_system.open_input_file(self.path), stop)

    def objects_below(self) -> Iterator[StoredObject]:
        """Objects of a folder at any depth, in the order of their paths, named by their path in the folder.

        Raises:
            OSError: the folder cannot be listed.
        """
        from pyarrow import fs

        found = self.file_system.get_file_info(fs.FileSelector(self.path, recursive=True))
        for info in sorted(found, key=lambda each: each.path):
            if info.type == fs.FileType.File:
                inside = PurePosixPath(info.path).relative_to(self.path)
                yield _stored(self.file_system, info, readable(inside.as_posix()))


def find_stored(uri: str) -> StoredObject:
    """Finds the object or folder that a URI names.

    Credentials and regions are those of the environment, as Arrow reads it; the query of the URI can set
    options of the file system, as in ``s3://bucket/folder?endpoint_override=127.0.0.1:9000&scheme=http``.

    Raises:
        UsageError: the URI is not valid, or this build of Arrow lacks the file system.
        CaptureError: there is no such object, or the store cannot be reached.
    """
    from pyarrow import fs

    shown = shown_uri(uri)
    if shown.endswith("://"):
        raise UsageError(f"{shown}: names no bucket or path")
    try:
        file_system, path = fs.FileSystem.from_uri(uri)
    except (ValueError, NotImplementedError) as error:
        raise UsageError(f"{shown}: {_first_line(error, uri)}") from None
    except OSError as error:
        raise CaptureError(f"{shown}: {_first_line(error, uri)}") from None
    try:
        info = file_system.get_file_info(path)
    except OSError as error:
        raise CaptureError(f"{shown}: {_first_line(error, uri)}") from None
    if info.type == fs.FileType.NotFound:
        raise CaptureError(f"{shown}: no such file")
    return _stored(file_system, info, readable(PurePosixPath(path).name or shown))


def shown_uri(uri: str) -> str:
    """A URI without its user, password and query, for messages."""
    try:
        parts = urlsplit(uri)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return f"{uri.partition('://')[0]}://..."
    return readable(f"{parts.scheme}://{host}{parts.path}")


def _stored(file_system: Any, info: Any, name: str) -> StoredObject:
    from pyarrow import fs

    return StoredObject(
        file_system,
        info.path,
        name,
        is_folder=info.type == fs.FileType.Directory,
        size_bytes=info.size,
        modified_ns=info.mtime_ns,
    )


def _first_line(error: Exception, uri: str) -> str:
    """What Arrow says, in one line, without the URI and what it may hold."""
    line = str(error).strip().partition("\n")[0].replace(uri, shown_uri(uri))
    secret = urlsplit(uri).netloc.rpartition("@")[0]
    for part in filter(None, secret.split(":")):
        line = line.replace(part, "***")
    return readable(line)


class StoredStream:
    """The bytes of an object. A thread reads the next blocks once a second block is asked for."""

    def __init__(self, file: Any, stop: Stop) -> None:
        """``file``: a ``pyarrow.NativeFile`` open for reading, closed with the stream."""
        self._file = file
        self._stop = stop
        self._rest = memoryview(b"")
        self._blocks: queue.Queue[bytes | OSError] = queue.Queue(_BLOCKS_AHEAD)
        self._reader: threading.Thread | None = None
        self._n_read = 0
        self._closed = threading.Event()
        self._at_end = False

    @property
    def stopped(self) -> bool:
        """Whether the stream ended because it was asked to."""
        return self._stop.asked

    def readinto(self, view: memoryview, /) -> int:
        """Put the next bytes into ``view``; 0 at the end.

        Raises:
            OSError: the store broke the connection, or refused.
        """
        if self._stop():
            return 0
        if not self._n_read:
            self._rest = memoryview(self._file.read(len(view)))
        elif not self._rest and not self._at_end:
            self._rest = memoryview(self._next_block())
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._n_read += count
        return count

    def _next_block(self) -> bytes:
        if self._reader is None:
            self._reader = threading.Thread(target=self._read_ahead, daemon=True)
            self._reader.start()
        block = self._blocks.get()
        if isinstance(block, OSError):
            self._at_end = True
            raise block
        self._at_end = not block
        return block

    def _read_ahead(self) -> None:
        block: bytes | OSError = b"?"
        while block and not self._closed.is_set():
            try:
                block = self._file.read(_BLOCK_BYTES)
            except OSError as error:
                block = error
            self._put(block)
            if isinstance(block, OSError):
                return

    def _put(self, block: bytes | OSError) -> None:
        while not self._closed.is_set():
            try:
                self._blocks.put(block, timeout=0.1)
            except queue.Full:
                continue
            return

    def close(self) -> None:
        """Ends reading ahead and closes the object."""
        self._closed.set()
        if self._reader is not None:
            self._reader.join()
        self._rest = memoryview(b"")
        self._file.close()
