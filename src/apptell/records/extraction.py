"""Extracts the packets of chosen flows from captures into one pcapng, with the verdicts as comments.

The captures are read once more: what a flow is decided on, and whether it is chosen, is known only at its end.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.capture import open_capture
from apptell.capture.pcapng_writer import PcapngWriter
from apptell.errors import CaptureError
from apptell.files import PRIVATE, new_file
from apptell.packets import Decoder
from apptell.packets.headers import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.capture import PacketBatch
    from apptell.verdicts.schema import VerdictBatch

_SAID: Final = (
    "app", "outcome", "evidence", "service", "best_guess", "confidence", "threshold", "model", "server_name",
    "http_host", "dns_name", "label", "community_id",
)  # fmt: skip
"""What a comment says of a flow, as far as it is known."""
_DIGITS: Final = 6
_PRIMES: Final = tuple(
    np.uint64(prime)
    for prime in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
)


class _Chosen:
    """A chosen flow."""

    __slots__ = ("comment", "end_ns", "start_ns")

    def __init__(self, start_ns: int, end_ns: int, comment: str) -> None:
        self.start_ns, self.end_ns = start_ns, end_ns
        self.comment: str | None = comment
        """None once it is written."""


class Extraction:
    """The flows whose packets are to be extracted."""

    def __init__(self) -> None:
        self._flows: dict[int, list[_Chosen]] = defaultdict(list)
        self._pairs: set[int] = set()
        self._keys: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self._pair_keys: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self.packets = 0
        """Packets that were extracted."""

    def add(self, verdicts: VerdictBatch) -> None:
        """Chooses the flows of some verdicts."""
        for row in verdicts.to_arrow().to_pylist():
            ends = [
                (ipaddress.ip_address(row[f"{side}_address"]), row[f"{side}_port"])
                for side in ("client", "server")
            ]
            one, other = (_number(address, port) for address, port in ends)
            key = _joined(one, other, np.array([row["protocol"]], dtype=np.uint64))
            one, other = (_number(address, 0) for address, _ in ends)
            pair = _joined(one, other, np.zeros(1, dtype=np.uint64))
            chosen = _Chosen(row["start_ns"], row["end_ns"], _comment(row))
            self._flows[int(key[0])].append(chosen)
            self._pairs.add(int(pair[0]))

    def write(self, captures: Sequence[str], path: Path, tunnels: int) -> None:
        """Reads the captures and writes the packets of the chosen flows; a damaged one up to its damage.

        Raises:
            OutputError: the file cannot be written.
        """
        decoder = Decoder(tunnels)
        self._keys = np.sort(np.fromiter(self._flows, dtype=np.uint64, count=len(self._flows)))
        self._pair_keys = np.sort(np.fromiter(self._pairs, dtype=np.uint64, count=len(self._pairs)))
        with new_file(path, mode=PRIVATE) as stream:
            writer = PcapngWriter(stream)
            try:
                with open_capture(list(captures)) as reader:
                    for batch in reader:
                        self._write(batch, decoder, writer, reader.current_name)
            except CaptureError:
                pass  # reading the flows has reported it
            self.packets = writer.packets

    def _write(
        self, batch: PacketBatch, decoder: Decoder, writer: PcapngWriter, capture: str
    ) -> None:
        rows = decoder(batch).rows
        frame_of = np.cumsum(rows["is_further"] == 0) - 1
        comments: dict[int, str | None] = {}
        is_whole = rows["status"] == Status.OK
        source, target = (
            _mixed(rows[f"{side}_high"], rows[f"{side}_low"], rows[f"{side}_port"])
            for side in ("source", "target")
        )
        keys = _joined(source, target, rows["protocol"].astype(np.uint64))
        for place in np.flatnonzero(is_whole & _is_in(keys, self._keys)).tolist():
            time_ns = int(rows["time_ns"][place])
            for flow in self._flows[int(keys[place])]:
                if flow.start_ns <= time_ns <= flow.end_ns:
                    frame = int(frame_of[place])
                    comments[frame] = comments.get(frame) or flow.comment
                    flow.comment = None
                    break
        is_fragment = rows["is_fragment"] > 0
        if is_fragment.any():  # those behind the first one have no ports
            none = np.zeros(len(rows), dtype=np.uint64)
            source, target = (
                _mixed(rows[f"{side}_high"], rows[f"{side}_low"], none)
                for side in ("source", "target")
            )
            pairs = _joined(source, target, none)
            wanted = is_fragment & _is_in(pairs, self._pair_keys)
            for place in np.flatnonzero(wanted).tolist():
                comments.setdefault(int(frame_of[place]), None)
        for frame in sorted(comments):
            writer.write(batch, frame, capture, comments[frame])


@contextmanager
def extracting(
    path: Path | None, captures: Sequence[str], tunnels: int
) -> Iterator[Extraction | None]:
    """Collects the flows to extract, and writes their packets when the block ends, also by a damaged capture.

    Args:
        path: the new pcapng; None extracts nothing.
        captures: what the flows are read from, files and folders.
        tunnels: tunnels within tunnels that flows are read from.

    Raises:
        OutputError: the file cannot be written.
    """
    if path is None:
        yield None
        return
    extraction = Extraction()
    try:
        yield extraction
    except CaptureError:
        extraction.write(captures, path, tunnels)
        raise
    extraction.write(captures, path, tunnels)


def _comment(row: dict[str, Any]) -> str:
    values = {name: row[name] for name in _SAID if row[name] is not None}
    for name in ("confidence", "threshold"):
        if name in values:
            values[name] = round(values[name], _DIGITS)
    return "apptell: " + "; ".join(f"{name}={value}" for name, value in values.items())


def _number(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> NDArray[np.uint64]:
    value = int(address)
    halves = (value >> 64, value & (1 << 64) - 1, port)
    return _mixed(*(np.array([each], dtype=np.uint64) for each in halves))


def _mixed(
    high: NDArray[np.uint64], low: NDArray[np.uint64], port: NDArray[Any]
) -> NDArray[np.uint64]:
    """A number for each end (address and port)."""
    value = high * _PRIMES[0] ^ low * _PRIMES[1] ^ port.astype(np.uint64) * _PRIMES[2]
    value = (value ^ (value >> np.uint64(31))) * _PRIMES[3]
    return np.asarray(value ^ (value >> np.uint64(29)), dtype=np.uint64)


def _joined(
    one: NDArray[np.uint64], other: NDArray[np.uint64], protocol: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """A number for each pair of ends, the same in both directions."""
    value = (one + other) * _PRIMES[0] ^ (one ^ other) ^ protocol * _PRIMES[1]
    return np.asarray(value, dtype=np.uint64)


def _is_in(values: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each value, shape (n,), is among some in ascending order."""
    if not len(known):
        return np.zeros(len(values), dtype=np.bool_)
    places = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.asarray(known[places] == values, dtype=np.bool_)
