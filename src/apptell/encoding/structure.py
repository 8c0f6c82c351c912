"""Encodes flows as tokens of parsed fields.

Handshakes, records, frames and words are parsed; their fields become tokens (hashes), so that a
model learns from the values and not from their positions. Values that are random by construction are never
tokens. How a stream was cut into segments, and in what order these arrived, does not matter as long as the
same bytes are seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.encoding.handshake import NAMES_HASHED, NAMES_MASKED, NAMES_ON
from apptell.encoding.name_keys import N_KEY_WORDS, name_keys
from apptell.encoding.stream_tokens import read_streams
from apptell.errors import UsageError
from apptell.flows.schema import DECISION_SEGMENTS
from apptell.names.dtls import find_dtls_hellos
from apptell.names.quic import find_initials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from apptell.flows.list_columns import SegmentColumns
    from apptell.flows.schema import FlowBatch

STRUCTURE_VERSION: Final = 2
"""Changes with every change of meaning of a token."""
N_TOKENS: Final = 320
"""Tokens of a flow at most; the fields of handshakes come first."""
NAMES: Final = {"on": NAMES_ON, "masked": NAMES_MASKED, "hashed": NAMES_HASHED}
"""What becomes of server names: ``on``: their endings and words are tokens; ``masked``: they give no tokens;
``hashed``: only their endings are tokens, as hashes of another kind.
"""
_UDP: Final = 17


def structure(
    flows: FlowBatch,
    *,
    packets: int = DECISION_SEGMENTS,
    skip: int = 0,
    names: str = "on",
    keys: bool = False,
) -> NDArray[np.uint16]:
    """The tokens of each flow.

    Args:
        flows: flows with the groups ``core`` and ``segments``.
        packets: how many payload packets are looked at.
        skip: payload packets passed over first, as if the capture had begun in mid-session.
        names: what becomes of server names in hellos, certificates and plain text; one of ``NAMES``.
        keys: whether the keys of ``name_keys`` follow the tokens. They are 0 where names are masked and where
            packets are passed over, as a capture that begins in mid-session shows no name.

    Returns:
        uint16, shape (n, N_TOKENS), or (n, N_TOKENS + N_KEY_WORDS) with keys: tokens from 1 to 65,535, no two
        alike, 0 behind them; none for a flow with fewer than two payload packets behind packets passed over.

    Raises:
        UsageError: ``names`` is not one of ``NAMES``.
        DatasetError: the flows were read without their segments.
    """
    if names not in NAMES:
        raise UsageError(f"names={names!r} is not one of {', '.join(NAMES)}")
    n = len(flows)
    segments = flows.segments()
    protocol = flows.column("protocol")
    is_udp = np.asarray(protocol.fill_null(0) if protocol.null_count else protocol) == _UDP
    rows = np.zeros((n, N_TOKENS + N_KEY_WORDS * keys), dtype=np.uint16)
    tokens = np.zeros((n, N_TOKENS), dtype=np.uint16) if keys else rows
    read_streams(
        segments.first,
        segments.length,
        segments.to_server,
        segments.offset,
        segments.start,
        segments.data,
        is_udp,
        *_hellos(segments, is_udp),
        skip,
        packets,
        NAMES[names],
        tokens,
    )
    if keys:
        rows[:, :N_TOKENS] = tokens
        if names != "masked" and skip == 0:
            rows[:, N_TOKENS:] = name_keys(flows)
    return rows


def find_flow_hellos(flows: FlowBatch) -> Iterator[tuple[bytes, bool]]:
    """The ClientHello of each QUIC and DTLS flow that has one: its bytes from its type on, and whether DTLS."""
    is_udp = np.asarray(flows.column("protocol").fill_null(0)) == _UDP
    of, start, data, is_datagram = _hellos(flows.segments(), is_udp)
    for message in of[of >= 0].tolist():
        yield data[start[message] : start[message + 1]].tobytes(), bool(is_datagram[message])


def _hellos(
    segments: SegmentColumns, is_udp: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8], NDArray[np.bool_]]:
    """The hellos of QUIC and DTLS: which is each flow's, where each begins, their bytes, which are DTLS."""
    of = np.full(len(is_udp), -1, dtype=np.int64)
    if not is_udp.any():
        return of, np.zeros(1, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.bool_)
    quic, _ = find_initials(segments, is_udp)
    dtls = find_dtls_hellos(segments, is_udp)
    of[quic.rows] = np.arange(len(quic.rows))
    of[dtls.rows] = len(quic.rows) + np.arange(len(dtls.rows))
    start = np.concatenate([quic.start, quic.start[-1] + dtls.start[1:]])
    is_datagram = np.arange(len(quic.rows) + len(dtls.rows)) >= len(quic.rows)
    return of, start, np.concatenate([quic.data, dtls.data]), is_datagram
