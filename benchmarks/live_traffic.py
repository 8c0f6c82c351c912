"""Sends the frames of captures through an interface at a given rate, with new addresses in every pass.

    python benchmarks/live_traffic.py INTERFACE CAPTURES... --rate 100000 --packets 1000000

Frames are sent by sendmmsg(2) past the queue discipline (PACKET_QDISC_BYPASS), only TCP over IPv4, their
captures interleaved by time. With each pass 1 is added to the second and third byte of both addresses, so
that its flows are new ones; checksums are left as they were. Prints packets sent, bytes and seconds as JSON.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import socket
import struct
import time
from pathlib import Path

import numpy as np

from apptell.capture import open_capture

_SOL_PACKET, _QDISC_BYPASS = 263, 20
_BATCH = 128
_LONGEST = 1514
_MMSG = np.dtype(
    {  # struct mmsghdr with the struct msghdr within
        "names": ["vectors", "n_vectors", "sent"],
        "formats": [np.uint64, np.uint64, np.uint32],
        "offsets": [16, 24, 56],
        "itemsize": 64,
    }
)


class Traffic:
    """Frames of captures, ready to be sent.

    Args:
        captures: files, or folders of them; those of one folder begin at one time.
    """

    def __init__(self, captures: list[str]) -> None:
        frames: list[tuple[int, bytes]] = []
        for path in (file for each in captures for file in _files(Path(each))):
            frames += _frames(path)
        frames.sort(key=lambda frame: frame[0])
        if not frames:
            raise SystemExit("no TCP over IPv4 in these captures")
        data = b"".join(frame for _, frame in frames)
        self.n = len(frames)
        length = np.array([len(frame) for _, frame in frames], dtype=np.uint64)
        start = np.concatenate([[0], np.cumsum(length)[:-1]]).astype(np.uint64)
        self.bytes = len(data)
        self.flows = len({_tuple(frame) for _, frame in frames})
        self._time_ns = np.array([time_ns for time_ns, _ in frames])
        self._length = length.astype(np.int64)
        self._data = np.frombuffer(bytearray(data), dtype=np.uint8)
        self._at = start.astype(np.int64)
        vectors = np.zeros((self.n, 2), dtype=np.uint64)
        vectors[:, 0] = start + np.uint64(self._data.ctypes.data)
        vectors[:, 1] = length
        self._vectors = vectors
        self._messages = np.zeros(self.n, dtype=_MMSG)
        self._messages["vectors"] = vectors.ctypes.data + np.arange(self.n, dtype=np.uint64) * 16
        self._messages["n_vectors"] = 1

    def next_pass(self) -> None:
        """Other addresses for the same frames."""
        for first in (26, 30):  # of the source and the target address of IPv4 over Ethernet
            high, low = self._at + first + 1, self._at + first + 2
            value = self._data[high].astype(np.uint16) * 256 + self._data[low] + 1
            self._data[high], self._data[low] = value >> 8, value & 255

    def write(self, path: Path, passes: int) -> None:
        """A pcap file of some passes, one after another."""
        with path.open("wb") as out:
            out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65_535, 1))
            for number in range(passes):
                begin_ns = 1_700_000_000 * 10**9 + number * int(self._time_ns[-1] + 10**9)
                for at, length, time_ns in zip(
                    self._at.tolist(), self._length.tolist(), self._time_ns.tolist(), strict=True
                ):
                    when = divmod(begin_ns + time_ns, 10**9)
                    out.write(struct.pack("<IIII", *when, length, length))
                    out.write(self._data[at : at + length].data)
                self.next_pass()

    def send(
        self, interface: str, rate: float, packets: int, limit_s: float = float("inf")
    ) -> tuple[int, float]:
        """Sends so many packets at a rate, 0 for as fast as can be, or until a time; packets and seconds."""
        library = ctypes.CDLL(None, use_errno=True)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
            out.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
            out.bind((interface, 0))
            done, at = 0, 0
            begin = time.monotonic()
            while done < packets and time.monotonic() - begin < limit_s:
                due = (
                    packets
                    if rate <= 0
                    else min(int((time.monotonic() - begin) * rate) + 1, packets)
                )
                if due - done < 1:
                    time.sleep(0.0002)
                    continue
                n = min(due - done, _BATCH, self.n - at)
                where = self._messages.ctypes.data + at * _MMSG.itemsize
                sent = library.sendmmsg(out.fileno(), ctypes.c_void_p(where), n, 0)
                if sent < 0:
                    raise OSError(ctypes.get_errno(), "sendmmsg")
                done, at = done + sent, at + sent
                if at == self.n:
                    at = 0
                    self.next_pass()
            return done, time.monotonic() - begin


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _frames(path: Path) -> list[tuple[int, bytes]]:
    """Times since the first frame, ns, and Ethernet frames."""
    found: list[tuple[int, bytes]] = []
    if not {".pcap", ".pcapng"} & set(path.suffixes):
        return found
    with open_capture(path) as reader:
        first = None
        for batch in reader:
            for row in range(len(batch)):
                frame = batch.frame(row)
                if batch.link_type[row] != 1:
                    frame = bytes(12) + b"\x08\x00" + frame
                if frame[12:14] != b"\x08\x00" or frame[23] != 6 or len(frame) > _LONGEST:
                    continue
                time_ns = int(batch.time_ns[row])
                first = time_ns if first is None else first
                found.append((time_ns - first, frame))
    return found


def _tuple(frame: bytes) -> frozenset[bytes]:
    at = 14 + (frame[14] & 15) * 4
    return frozenset((frame[26:30] + frame[at : at + 2], frame[30:34] + frame[at + 2 : at + 4]))


def main() -> None:
    """Sends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("interface")
    parser.add_argument("captures", nargs="+")
    parser.add_argument("--rate", type=float, default=0.0, help="packets a second; 0: all it can")
    parser.add_argument("--packets", type=int, default=0, help="0: one pass")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds at most")
    parser.add_argument("--passes-before", type=int, default=0, help="addresses to leave out")
    options = parser.parse_args()
    traffic = Traffic(options.captures)
    for _ in range(options.passes_before):
        traffic.next_pass()
    packets = options.packets or traffic.n
    sent, seconds = traffic.send(options.interface, options.rate, packets, options.limit)
    print(
        json.dumps(
            {
                "sent": sent,
                "seconds": round(seconds, 3),
                "rate": round(sent / seconds),
                "packets_a_pass": traffic.n,
                "flows_a_pass": traffic.flows,
                "bytes_a_packet": round(traffic.bytes / traffic.n),
            }
        )
    )


if __name__ == "__main__":
    main()
