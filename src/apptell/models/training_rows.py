"""Stores the rows that a model learned from, so that it can be trained again with others (``rows.zip``).

A row is what the model and its detector take: encoded inputs, payload lengths, app, group, client, time, TLS
fingerprint and device. There is no payload, no address and no name of a capture: groups, clients and devices
are numbers, and times count from the earliest flow. The file is a ZIP archive of a JSON header and of one
Zstandard frame for each array. Its sizes are checked before anything is unpacked, because a model's folder may
be a stranger's.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import zstandard

from apptell.encoding import complete_options, encoding_of
from apptell.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

FORMAT: Final = 1
LARGEST_FILE: Final = 512 << 20
"""Bytes of a file at most."""
MOST_ROWS: Final = 4_000_000
_LARGEST_HEADER: Final = 8 << 20
_LARGEST_RAW: Final = 4 << 30
"""Bytes of all arrays together at most, once unpacked."""
_MOST_LENGTHS: Final = 32
_MOST_VIEWS: Final = 16
_MOST_APPS: Final = 100_000
_LONGEST_NAME: Final = 256
_LEVEL: Final = 9


class Encoded(NamedTuple):
    """How the inputs of rows were made."""

    inputs: str
    """Name of the encoding."""
    version: int
    options: Mapping[str, Any]
    views: int
    """Views of each flow; 0 where inputs have no axis for them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row's inputs."""
        own = encoding_of(self.inputs).shape(complete_options(self.inputs, self.options))
        return (self.views, *own) if self.views else own


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """n labelled rows."""

    encoded: Encoded
    inputs: NDArray[Any]
    """Shape (n, *encoded.shape)."""
    apps: NDArray[np.str_]
    """Shape (n,)."""
    lengths: NDArray[np.float32]
    """Signed payload lengths, shape (n, packets)."""
    groups: NDArray[np.int64]
    """Number of the network or session that each flow is from, shape (n,)."""
    clients: NDArray[np.int64]
    """Number of the client of each flow, shape (n,)."""
    times_ns: NDArray[np.int64]
    """Shape (n,), from 0."""
    ja4: NDArray[np.str_]
    """TLS fingerprint of each flow, empty for none, shape (n,)."""
    devices: NDArray[np.int64]
    """Number of the device of each flow, shape (n,)."""

    def __len__(self) -> int:
        return len(self.apps)

    def take(self, rows: NDArray[np.int64]) -> TrainingRows:
        """Some of the rows."""
        return replace(
            self,
            inputs=self.inputs[rows],
            apps=self.apps[rows],
            lengths=self.lengths[rows],
            groups=self.groups[rows],
            clients=self.clients[rows],
            times_ns=self.times_ns[rows],
            ja4=self.ja4[rows],
            devices=self.devices[rows],
        )

    @staticmethod
    def concat(parts: Sequence[TrainingRows]) -> TrainingRows:
        """Rows of several origins; no group, client or device of one is that of another.

        Raises:
            UsageError: their inputs were not made in the same way.
        """
        first = parts[0]
        for part in parts[1:]:
            check_same(first.encoded, part.encoded)
        packets = min(part.lengths.shape[1] for part in parts)
        return TrainingRows(
            first.encoded,
            np.concatenate([part.inputs for part in parts]),
            np.concatenate([part.apps for part in parts]),
            np.concatenate([part.lengths[:, :packets] for part in parts]),
            _apart([part.groups for part in parts]),
            _apart([part.clients for part in parts]),
            np.concatenate([part.times_ns for part in parts]),
            np.concatenate([part.ja4 for part in parts]),
            _apart([part.devices for part in parts]),
        )

    def to_bytes(self) -> bytes:
        """The content of its file.

        Raises:
            UsageError: the inputs are payload bytes, or there are too many rows.
        """
        if holds_payload(self.encoded.inputs):
            raise UsageError(
                f"the inputs {self.encoded.inputs!r} are payload bytes, which are not kept: choose "
                "another model"
            )
        if len(self) > MOST_ROWS:
            raise UsageError(f"{len(self):,} rows; at most {MOST_ROWS:,} can be kept")
        names, place = np.unique(self.apps, return_inverse=True)
        prints, print_of = np.unique(self.ja4, return_inverse=True)
        arrays = {
            "inputs": self.inputs,
            "app": place.astype(np.uint32),
            "lengths": np.clip(np.round(self.lengths), -65_535, 65_535).astype(np.int32),
            "group": self.groups.astype(np.uint32),
            "client": self.clients.astype(np.uint32),
            "time_ns": (self.times_ns - self.times_ns.min(initial=0)).astype(np.int64),
            "ja4": print_of.astype(np.uint32),
            "device": self.devices.astype(np.uint32),
        }
        header = {
            "format": FORMAT,
            "flows": len(self),
            "inputs": self.encoded.inputs,
            "encoding": self.encoded.version,
            "options": dict(self.encoded.options),
            "views": self.encoded.views,
            "packets": self.lengths.shape[1],
            "apps": [str(name) for name in names],
            "ja4": [str(each) for each in prints],
        }
        content = io.BytesIO()
        pack = zstandard.ZstdCompressor(level=_LEVEL)
        with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
            # a fixed time: twice the same training gives the same file
            archive.writestr(zipfile.ZipInfo("rows.json"), json.dumps(header, ensure_ascii=False))
            for name, array in arrays.items():
                archive.writestr(zipfile.ZipInfo(f"{name}.zst"), pack.compress(_by_column(array)))
        return content.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> TrainingRows:
        """Reads and checks the result of ``to_bytes``.

        Args:
            data: the content of the file.
            place: where it came from, for messages.

        Raises:
            ModelError: it is damaged, too large, or of another version of the inputs.
        """
        try:
            return _read(data)
        except _DAMAGE as error:
            raise ModelError(f"{place}: damaged, or not rows of a model: {error}") from error


def _apart(numbers: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Numbers of several origins as one array, in which those of one are above those of the ones before."""
    found, at = [], 0
    for each in numbers:
        found.append(each + at)
        at += int(each.max(initial=-1)) + 1
    return np.concatenate(found)


_DAMAGE: Final = (
    *(ArithmeticError, EOFError, LookupError, MemoryError, NotImplementedError, OSError),
    *(RuntimeError, TypeError, UsageError, ValueError, zipfile.BadZipFile, zstandard.ZstdError),
)
"""Exceptions of ``zipfile``, Zstandard and NumPy for damaged content."""


def holds_payload(inputs: str) -> bool:
    """Whether inputs of this encoding are bytes of payload, and not numbers made from them."""
    encoding = encoding_of(inputs)
    return encoding.reads_payload and encoding.dtype is np.uint8


def check_same(one: Encoded, other: Encoded) -> None:
    """Refuses rows whose inputs were made in different ways.

    Raises:
        UsageError: they were.
    """
    for name in ("inputs", "version", "options", "views"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if name == "options":
            mine, theirs = dict(mine), dict(theirs)
        if mine != theirs:
            raise UsageError(
                f"the rows do not fit together: their {name} are {theirs!r}, not {mine!r}"
            )


def _by_column(array: NDArray[Any]) -> bytes:
    """The bytes of an array, all first bytes of the rows first: alike ones lie together and compress well."""
    if not array.size:
        return b""
    rows = np.ascontiguousarray(array).reshape(len(array), -1)
    return rows.view(np.uint8).reshape(len(array), -1).T.tobytes()


def _from_columns(data: bytes, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """The array of these bytes."""
    if not math.prod(shape):
        return np.zeros(shape, dtype=dtype)
    columns = np.frombuffer(data, dtype=np.uint8).reshape(-1, shape[0])
    return np.ascontiguousarray(columns.T).view(dtype).reshape(shape)


def _read(data: bytes) -> TrainingRows:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {entry.filename: entry for entry in archive.infolist()}
        for entry in parts.values():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(data):
                raise ValueError(f"{entry.filename!r} is packed in another way")
        if parts["rows.json"].file_size > _LARGEST_HEADER:
            raise ValueError("its header is too large")
        header = json.loads(archive.read(parts["rows.json"]))
        encoded, n, packets, apps = _checked_header(header)
        prints = _texts(header.get("ja4", [""]), "fingerprint", 0)
        encoding = encoding_of(encoded.inputs)
        shapes: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
            "inputs": (encoding.dtype, (n, *encoded.shape)),
            "app": (np.uint32, (n,)),
            "lengths": (np.int32, (n, packets)),
            "group": (np.uint32, (n,)),
            "client": (np.uint32, (n,)),
            "time_ns": (np.int64, (n,)),
        }
        if "ja4" in header:  # not in rows of earlier versions
            shapes |= {"ja4": (np.uint32, (n,)), "device": (np.uint32, (n,))}
        sizes = {
            name: math.prod(shape) * np.dtype(dtype).itemsize
            for name, (dtype, shape) in shapes.items()
        }
        if sum(sizes.values()) > _LARGEST_RAW:
            raise ValueError(f"{n:,} rows of {sum(sizes.values()):,} bytes are too many")
        found = {
            name: _from_columns(_unpacked(archive.read(parts[f"{name}.zst"]), sizes[name]), *kind)
            for name, kind in shapes.items()
        }
    if n and (found["app"].max() >= len(apps) or found["time_ns"].min() < 0):
        raise ValueError("a number is out of range")
    found.setdefault("ja4", np.zeros(n, dtype=np.uint32))
    if n and found["ja4"].max() >= len(prints):
        raise ValueError("a fingerprint is out of range")
    if not np.isfinite(found["inputs"]).all():
        raise ValueError("an input is not a number")
    return TrainingRows(
        encoded,
        found["inputs"],
        np.array(apps, dtype=np.str_)[found["app"]] if n else np.zeros(0, dtype=np.str_),
        found["lengths"].astype(np.float32),
        np.unique(found["group"], return_inverse=True)[1].astype(np.int64),
        np.unique(found["client"], return_inverse=True)[1].astype(np.int64),
        found["time_ns"],
        np.array(prints, dtype=np.str_)[found["ja4"]] if n else np.zeros(0, dtype=np.str_),
        np.unique(found.get("device", found["group"]), return_inverse=True)[1].astype(np.int64),
    )


def _unpacked(data: bytes, size: int) -> bytes:
    """The content of a frame, which is exactly ``size`` bytes; never more are unpacked."""
    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as stream:
        content: bytes = stream.read(size + 1)
    if len(content) != size:
        raise ValueError(f"an array has not the {size:,} bytes of its shape")
    return content


def _checked_header(header: Any) -> tuple[Encoded, int, int, list[str]]:
    """How the rows are encoded, their number, the packets of their lengths, and the apps."""
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError("no header of this version")
    n, packets, views = header["flows"], header["packets"], header["views"]
    limits = ((n, MOST_ROWS), (packets, _MOST_LENGTHS), (views, _MOST_VIEWS))
    for value, most in limits:
        if type(value) is not int or not 0 <= value <= most:
            raise ValueError(f"{value!r} is not a count up to {most:,}")
    if packets < 1:
        raise ValueError("no lengths")
    apps = _texts(header["apps"], "app", 1)
    encoding = encoding_of(str(header["inputs"]))
    options = complete_options(encoding.name, dict(header["options"]))
    if header["encoding"] != encoding.version or holds_payload(encoding.name):
        raise ValueError(f"made for another version of the inputs {encoding.name!r}")
    return Encoded(encoding.name, encoding.version, options, views), n, packets, apps


def _texts(values: Any, what: str, shortest: int) -> list[str]:
    """A list of texts of normal length."""
    if not isinstance(values, list) or len(values) > _MOST_APPS:
        raise ValueError(f"no list of {what}s")
    if not all(isinstance(each, str) and shortest <= len(each) <= _LONGEST_NAME for each in values):
        raise ValueError(f"a {what} is not a text of normal length")
    return values
