"""Extracts the packets of chosen flows from captures into one pcapng, with the verdicts as comments.

The captures are read once more: what a flow is decided on, and whether it is chosen, is known only at its end.
"""

from __future__ import annotations

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
from apptell.packets.packet_keys import flow_rows, is_among, packet_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.capture import PacketBatch
    from apptell.verdicts.schema import VerdictBatch

SAID: Final = (
    "app", "outcome", "evidence", "service", "best_guess", "confidence", "threshold", "model", "server_name",
    "http_host", "dns_name", "label", "community_id",
)  # fmt: skip
"""What a comment says of a flow, as far as it is known."""
_DIGITS: Final = 6


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
        self._flows: dict[bytes, list[_Chosen]] = defaultdict(list)
        self._pairs: set[bytes] = set()
        self._keys: NDArray[np.bytes_] = np.zeros(0, dtype=np.bytes_)
        self._pair_keys: NDArray[np.bytes_] = np.zeros(0, dtype=np.bytes_)
        self.packets = 0
        """Packets that were extracted."""

    def add(self, verdicts: VerdictBatch) -> None:
        """Chooses the flows of some verdicts."""
        self.add_rows(verdicts.to_arrow().to_pylist())

    def add_rows(self, chosen: Sequence[dict[str, Any]]) -> None:
        """Chooses the flows of some verdicts that are given as rows, with all columns of a verdict."""
        rows = flow_rows(
            [
                (
                    (row["client_address"], row["client_port"]),
                    (row["server_address"], row["server_port"]),
                    row["protocol"],
                )
                for row in chosen
            ]
        )
        for key, row in zip(packet_keys(rows).tolist(), chosen, strict=True):
            self._flows[key].append(_Chosen(row["start_ns"], row["end_ns"], verdict_comment(row)))
        self._pairs.update(packet_keys(rows, has_ports=False).tolist())

    def write(self, captures: Sequence[str], path: Path, tunnels: int) -> None:
        """Reads the captures and writes the packets of the chosen flows; a damaged one up to its damage.

        Raises:
            OutputError: the file cannot be written.
        """
        decoder = Decoder(tunnels)
        self._keys = np.array(sorted(self._flows), dtype=np.bytes_)
        self._pair_keys = np.array(sorted(self._pairs), dtype=np.bytes_)
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
        keys = packet_keys(rows)
        for place in np.flatnonzero(is_whole & is_among(keys, self._keys)).tolist():
            time_ns = int(rows["time_ns"][place])
            for flow in self._flows[keys[place]]:
                if flow.start_ns <= time_ns <= flow.end_ns:
                    frame = int(frame_of[place])
                    comments[frame] = comments.get(frame) or flow.comment
                    flow.comment = None
                    break
        is_fragment = rows["is_fragment"] > 0
        if is_fragment.any():  # those behind the first one have no ports
            pairs = packet_keys(rows, has_ports=False)
            wanted = is_fragment & is_among(pairs, self._pair_keys)
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


def verdict_comment(row: dict[str, Any]) -> str:
    """What a comment says of a flow, given the columns ``SAID`` of its verdict or record."""
    values = {name: row[name] for name in SAID if row[name] is not None}
    for name in ("confidence", "threshold"):
        if name in values:
            values[name] = round(values[name], _DIGITS)
    return "apptell: " + "; ".join(f"{name}={value}" for name, value in values.items())
