"""Records of many streams in, a folder of Parquet files by sensor and day out, on a disk or in an object store.

``_apptell/streams/SENSOR.json`` is written before the files of a stream and again when all of them are there.
Files have names that follow from the stream's key, and their content follows from the stream. Therefore an
attempt that died leaves nothing that its repetition does not replace, and a finished stream is not read again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

from apptell.capture.object_store import local_path, shown_uri
from apptell.errors import OutputError, UsageError
from apptell.files import make_folder, readable, write_file
from apptell.verdicts.archive_layout import (
    MANIFEST,
    MAX_RECORD_BYTES,
    StreamRecord,
    is_part,
    record_path,
    sensor_folder,
)

_FORMAT: Final = "apptell archive"
_VERSION: Final = 1


class ArchiveFolder:
    """A folder on a disk, or in an object store. It can be sent to other machines that reach the same place."""

    def __init__(self, place: str | Path) -> None:
        local = local_path(str(place))
        self._is_local = local is not None
        self._place = str(place) if local is None else str(local)
        self.name = readable(self._place) if self._is_local else shown_uri(self._place)
        """The folder as messages show it."""
        if self.name.endswith("://"):
            raise UsageError(f"{self.name}: names no bucket or path")

    def prepare(self, settings: dict[str, Any]) -> None:
        """Begins a folder, or checks that an existing one was made with the same settings.

        Raises:
            UsageError: the folder holds something else, or was made with other settings.
            OutputError: it cannot be read or written.
        """
        found = self._read_json(MANIFEST)
        if found is None:
            if self._names(""):
                raise UsageError(
                    f"{self.name}: not empty and not an output of apptell archive; choose another folder"
                )
            self.write_manifest(settings, [])
            return
        if found.get("format") != _FORMAT or found.get("version") != _VERSION:
            raise UsageError(
                f"{self.name}: made by another version of apptell; choose another folder"
            )
        if found.get("settings") != settings:
            old = found.get("settings")
            names = sorted(
                key
                for key in settings
                if not isinstance(old, dict) or old.get(key) != settings[key]
            )
            raise UsageError(
                f"{self.name}: made with other settings ({', '.join(names)}); choose another folder"
            )

    def write_manifest(self, settings: dict[str, Any], streams: list[StreamRecord]) -> None:
        """Writes which streams are there, and the settings of the run."""
        manifest = {
            "format": _FORMAT,
            "version": _VERSION,
            "settings": settings,
            "streams": [asdict(each) for each in streams],
        }
        self._write(MANIFEST, json.dumps(manifest, indent=1).encode())

    def record(self, sensor: str) -> StreamRecord | None:
        """What is known of a stream; None before its first attempt.

        Raises:
            OutputError: it cannot be read, or is not what this class writes.
        """
        found = self._read_json(record_path(sensor))
        if found is None:
            return None
        record = StreamRecord.parse(found)
        if record is None or record.sensor != sensor:
            raise OutputError(f"{self.name}/{record_path(sensor)}: not a record of this stream")
        return record

    def begin(self, sensor: str, key: str) -> StreamRecord:
        """Notes that a stream is about to be written. Its old parts stay until ``commit``."""
        old = self.record(sensor)
        new = StreamRecord(sensor, key)
        if old is not None:
            new.replaced = [part for part in (*old.parts, *old.replaced) if not _has_key(part, key)]
            earlier = old.abandoned_keys if old.done else [*old.abandoned_keys, old.key]
            new.abandoned_keys = sorted(set(earlier) - {key})
        self._write_record(new)
        return new

    def write_part(self, record: StreamRecord, day: str, data: memoryview | bytes) -> None:
        """Writes the next Parquet file of a stream."""
        name = f"{record.key}-{len(record.parts):05}.parquet"
        path = f"{sensor_folder(record.sensor)}/day={day}/{name}"
        self._write(path, data)
        record.parts.append(path)

    def commit(self, record: StreamRecord) -> None:
        """Notes that a stream is complete, and deletes what it replaces."""
        record.done = True
        self._write_record(record)
        gone = [*record.replaced, *self._abandoned(record)]
        if not gone and not record.abandoned_keys:
            return
        for part in gone:
            self._delete(part)
        record.replaced, record.abandoned_keys = [], []
        self._write_record(record)

    def _abandoned(self, record: StreamRecord) -> list[str]:
        """Files of attempts that were never completed, also of a longer attempt with the same key."""
        folder = sensor_folder(record.sensor)
        keys = {*record.abandoned_keys, record.key}
        found = []
        for day in self._names(folder):
            for name in self._names(f"{folder}/{day}"):
                path = f"{folder}/{day}/{name}"
                if is_part(record.sensor, path) and name[:16] in keys and path not in record.parts:
                    found.append(path)
        return found

    def _write_record(self, record: StreamRecord) -> None:
        self._write(record_path(record.sensor), json.dumps(asdict(record)).encode())

    # what follows is the only part that knows where the folder is

    def _store(self, path: str) -> tuple[Any, str]:
        from pyarrow import fs

        try:
            file_system, root = fs.FileSystem.from_uri(self._place)
        except (ValueError, NotImplementedError):
            raise UsageError(f"{self.name}: not a URI of a known store") from None
        return file_system, str(PurePosixPath(root) / path)

    def _write(self, path: str, data: memoryview | bytes) -> None:
        if self._is_local:
            target = Path(self._place, path)
            make_folder(target.parent)
            write_file(target, data)
            return
        try:
            file_system, target_path = self._store(path)
            if urlsplit(self._place).scheme in ("hdfs", "viewfs"):
                file_system.create_dir(str(PurePosixPath(target_path).parent), recursive=True)
            with file_system.open_output_stream(target_path) as stream:
                stream.write(data)
        except OSError as error:
            raise OutputError(f"{self.name}/{path}: {_one_line(error)}") from None

    def _read_json(self, path: str) -> dict[str, Any] | None:
        try:
            data = self._read(path)
            found = None if data is None else json.loads(data)
        except OSError as error:
            raise OutputError(f"{self.name}/{path}: {_one_line(error)}") from None
        except (ValueError, RecursionError):
            raise OutputError(f"{self.name}/{path}: not valid JSON") from None
        if found is not None and not isinstance(found, dict):
            raise OutputError(f"{self.name}/{path}: not a JSON object")
        return found

    def _read(self, path: str) -> bytes | None:
        if self._is_local:
            target = Path(self._place, path)
            if not target.is_file() or target.is_symlink():
                return None
            with target.open("rb") as file:
                return file.read(MAX_RECORD_BYTES)
        file_system, target_path = self._store(path)
        try:
            with file_system.open_input_file(target_path) as file:
                return bytes(file.read(MAX_RECORD_BYTES))
        except FileNotFoundError:
            return None

    def _names(self, path: str) -> list[str]:
        """Names of the entries of a folder; none if it is missing."""
        if self._is_local:
            folder = Path(self._place, path)
            try:
                return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
            except OSError as error:
                raise OutputError(f"{readable(folder)}: {error.strerror}") from None
        from pyarrow import fs

        file_system, target_path = self._store(path)
        selector = fs.FileSelector(target_path, allow_not_found=True)
        try:
            return sorted(
                PurePosixPath(info.path).name for info in file_system.get_file_info(selector)
            )
        except OSError as error:
            raise OutputError(f"{self.name}/{path}: {_one_line(error)}") from None

    def _delete(self, path: str) -> None:
        if self._is_local:
            Path(self._place, path).unlink(missing_ok=True)
            return
        file_system, target_path = self._store(path)
        try:
            file_system.delete_file(target_path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"{self.name}/{path}: {_one_line(error)}") from None


def _has_key(path: str, key: str) -> bool:
    return path.rpartition("/")[2].startswith(f"{key}-")


def _one_line(error: OSError) -> str:
    return readable(str(error.strerror or error).strip().partition("\n")[0])
