"""UDP segments in, DTLS ClientHello messages out, in the form of TLS handshake messages.

Source: RFC 6347 section 4.1 (records of 13 bytes) and 4.2.2 (handshake header of 12 bytes, fragments);
RFC 9147 section 5 keeps both for the first flight of DTLS 1.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.kernels.compiled import kernel
from apptell.names.tls import Messages

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import SegmentColumns


@kernel
def collect_dtls_hellos(
    wanted: NDArray[np.bool_],
    first: NDArray[np.int64],
    to_server: NDArray[np.bool_],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    rows: NDArray[np.int64],
    ends: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> int:
    """Writes each wanted flow's first ClientHello into ``out``, its fragments joined; how many there are.

    Fragments are joined in the order of their offsets as they come; a hello with a fragment missing is
    left as far as it goes. Message m is ``out[ends[m] : ends[m + 1]]``: type, length, body.
    """
    count = 0
    at = 0
    ends[0] = 0
    for flow in range(len(wanted)):
        if not wanted[flow]:
            continue
        for side in range(2):
            direction = side == 0
            have = 0
            size: Any = -1
            for segment in range(first[flow], first[flow + 1]):
                if to_server[segment] != direction or have == size:
                    continue
                place = start[segment]
                end = start[segment + 1]
                while end - place >= 25 and data[place] == 22 and data[place + 1] == 254:
                    record = (np.int64(data[place + 11]) << 8) | np.int64(data[place + 12])
                    body = place + 25
                    place += 13 + record
                    if data[body - 12] != 1:
                        continue
                    whole = (
                        (np.int64(data[body - 11]) << 16)
                        | (np.int64(data[body - 10]) << 8)
                        | np.int64(data[body - 9])
                    )
                    offset = (
                        (np.int64(data[body - 6]) << 16)
                        | (np.int64(data[body - 5]) << 8)
                        | np.int64(data[body - 4])
                    )
                    length = (
                        (np.int64(data[body - 3]) << 16)
                        | (np.int64(data[body - 2]) << 8)
                        | np.int64(data[body - 1])
                    )
                    if size < 0:
                        size = whole
                    if whole != size or offset != have:
                        continue  # a fragment of another hello, or one that was seen
                    stop = min(min(end, place), body + min(length, size - have))
                    for index in range(body, stop):
                        if at + 4 + have >= len(out):
                            break
                        out[at + 4 + have] = data[index]
                        have += 1
                    if have == size:
                        break
            if have >= 40 and out[at + 4] == 254:
                out[at] = 1
                out[at + 1] = size >> 16
                out[at + 2] = (size >> 8) & 255
                out[at + 3] = size & 255
                rows[count] = flow
                count += 1
                at += 4 + have
                ends[count] = at
                break
    return count


def find_dtls_hellos(segments: SegmentColumns, wanted: NDArray[np.bool_]) -> Messages:
    """The DTLS ClientHello messages of UDP flows; ``read_hellos(messages, "d")`` reads them.

    Args:
        segments: the kept segments of n flows.
        wanted: flows to look at, shape (n,).
    """
    n = len(wanted)
    rows = np.empty(n, dtype=np.int64)
    ends = np.empty(n + 1, dtype=np.int64)
    out = np.empty(len(segments.data), dtype=np.uint8)
    count = collect_dtls_hellos(
        wanted,
        segments.first,
        segments.to_server,
        segments.start,
        segments.data,
        rows,
        ends,
        out,
    )
    return Messages(rows[:count], ends[: count + 1], out[: ends[count]])
