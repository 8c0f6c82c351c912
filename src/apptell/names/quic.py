"""Decrypts QUIC Initial packets with the published salts, and joins their ClientHello messages.

Sources: RFC 9000 section 17.2 (packets), 19 (frames); RFC 9001 section 5 (keys, header protection);
RFC 9369 (version 2); the drafts' salts; Google QUIC's crypto document for the SNI tag of a CHLO.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from apptell.kernels.compiled import kernel, subroutine
from apptell.names.crypto_streams import IS_STREAM, IS_STREAM_IF_FIRST, join_streams, varint_at
from apptell.names.initial_keys import BEFORE_ID, MAX_ID_BYTES, Connections, unprotect
from apptell.names.text import escape
from apptell.names.tls import Messages

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.list_columns import SegmentColumns

_V1: Final = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
_V2: Final = bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9")
_V2_DRAFT: Final = bytes.fromhex("a707c203a59b47184a1d62ca570406ea7ae3e5d3")
_DRAFT_29: Final = bytes.fromhex("afbfec289993d24c9e9786f19c6111e04390a899")
_DRAFT_23: Final = bytes.fromhex("c3eef712c72ebb5a11a7d2432bb46365bef9f502")
_DRAFT_22: Final = bytes.fromhex("7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a")
SALTS: Final = {
    0x00000001: _V1,
    0x6B3343CF: _V2,
    0x709A50C4: _V2_DRAFT,
    0xFF000015: _DRAFT_22,
    0xFF000016: _DRAFT_22,
    **{0xFF000000 | draft: _DRAFT_23 for draft in range(23, 29)},
    **{0xFF000000 | draft: _DRAFT_29 for draft in range(29, 33)},
    **{0xFF000000 | draft: _V1 for draft in range(33, 35)},
    0xFACEB001: _DRAFT_22,
    0xFACEB002: _DRAFT_23,
    0xFACEB00E: _DRAFT_23,
    0xFACEB003: _DRAFT_29,
    0x51303530: bytes.fromhex("504574efd066fe2f9d945cfcdbd3a7f0d3b56b45"),  # Q050
    0x54303530: bytes.fromhex("7ff579e5acd072915580304c43a2367c60488310"),  # T050
    0x54303531: bytes.fromhex("7a4edef4e7ccee5fa4506c19124fc8ccda6e033d"),  # T051
}
"""Version to the salt of its Initial secrets."""
_T050: Final = 0x54303530
_T051: Final = 0x54303531
_QUIC_2: Final = 0x6B3343CF
_QUIC_2_DRAFT: Final = 0x709A50C4
_Q050: Final = 0x51303530
_RESERVED: Final = 0x0A0A0A0A
"""Versions that look so behind a mask of 0x0f0f0f0f force version negotiation."""
_VERSIONS: Final = np.array(sorted(SALTS), dtype=np.int64)
_SALTS: Final = np.array(
    # a reserved version has the last row: clients of that time used this salt
    [np.frombuffer(salt, dtype=">u4") for salt in (*map(SALTS.__getitem__, _VERSIONS), _DRAFT_29)],
    dtype=np.uint32,
)
# Rows of what ``list_initials`` writes.
_FLOW, _SIDE, _KIND, _VERSION, _BEGIN, _ID_END, _NUMBER, _END, _OWN, _FIRST = range(10)
_PACKET, _CHLO = 0, 1
"""Kinds: an Initial packet; a datagram that may hold a CHLO in the clear."""


@subroutine
def _keys_of(
    data: NDArray[np.uint8], begin: Any, id_end: Any, version: int, group: int, row: int, out: Any
) -> tuple[int, int]:
    """The first of the rows ``group`` to ``row`` with the same version and id, and with the same version."""
    first = row
    for other in range(group, row):
        if out[_KIND, other] != _PACKET or out[_VERSION, other] != version:
            continue
        if first == row:
            first = other
        is_same = out[_ID_END, other] - out[_BEGIN, other] == id_end - begin
        if is_same:
            for byte in range(id_end - begin):
                if data[begin + byte] != data[out[_BEGIN, other] + byte]:
                    is_same = False
                    break
        if is_same:
            return other, first
    return row, first


@kernel
def list_initials(
    wanted: NDArray[np.bool_],
    first: NDArray[np.int64],
    to_server: NDArray[np.bool_],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    versions: NDArray[np.int64],
    out: NDArray[np.int64],
) -> int:
    """Lists the client's, then the server's Initial packets of each wanted flow, in order of arrival.

    Args:
        wanted: flows to look at, shape (n,).
        first: as in ``SegmentColumns``, and so the next three.
        to_server: directions.
        start: ends of segments.
        data: kept bytes.
        versions: those whose salt is known, ascending.
        out: int64 (10, k), out: flow, direction, kind, version, begin of destination id, its end and that of
            the packet number, end of the packet; the first packet of this flow and direction with the same
            version and id, and with the same version. A packet begins 6 bytes before the id.

    Returns:
        How many there are; of more than k the first k are written.
    """
    count = 0
    room = out.shape[1]
    for flow in range(len(wanted)):
        if not wanted[flow]:
            continue
        for side in range(2):
            group = count
            for segment in range(first[flow], first[flow + 1]):
                if to_server[segment] != (side == 0):
                    continue
                at: Any = start[segment]
                end: Any = start[segment + 1]
                if end - at < 20:
                    continue
                is_long = data[at] & 0x80 != 0
                mark = at + 1 if is_long else at + 9
                if (is_long or data[at] & 9 == 9) and data[mark] == 81 and data[mark + 1] == 48:
                    if count < room:  # "Q0"
                        out[_FLOW, count], out[_SIDE, count], out[_KIND, count] = flow, side, _CHLO
                        out[_BEGIN, count], out[_END, count] = at, end
                    count += 1
                while end - at >= 7 and data[at] & 0x80:
                    version = (
                        (np.int64(data[at + 1]) << 24)
                        | (np.int64(data[at + 2]) << 16)
                        | (np.int64(data[at + 3]) << 8)
                        | np.int64(data[at + 4])
                    )
                    begin, place = at + 6, at + 6 + np.int64(data[at + 5])
                    if place >= end or version == 0:
                        break
                    id_end = place
                    place += 1 + np.int64(data[place])
                    packet_type = np.int64(data[at] >> 4) & 3
                    if version == _QUIC_2 or version == _QUIC_2_DRAFT:
                        packet_type = (packet_type - 1) & 3  # RFC 9369, section 3.2
                    if packet_type == 3:  # Retry has no length
                        break
                    if packet_type == 0:
                        size, place = varint_at(data, place, end)
                        if size < 0:
                            break
                        place += size
                    size, place = varint_at(data, place, end)
                    if size < 0:
                        break
                    if packet_type == 0 and id_end - begin <= MAX_ID_BYTES:
                        spot = np.searchsorted(versions, version)
                        is_known = spot < len(versions) and versions[spot] == version
                        if is_known or version & 0x0F0F0F0F == _RESERVED:
                            if count < room:
                                own, oldest = _keys_of(
                                    data, begin, id_end, version, group, count, out
                                )
                                out[_FLOW, count], out[_SIDE, count] = flow, side
                                out[_KIND, count], out[_VERSION, count] = _PACKET, version
                                out[_BEGIN, count], out[_ID_END, count] = begin, id_end
                                out[_NUMBER, count] = place
                                out[_END, count] = min(place + size, end)
                                out[_OWN, count], out[_FIRST, count] = own, oldest
                            count += 1
                    at = place + size
    return count


def find_initials(
    segments: SegmentColumns, wanted: NDArray[np.bool_]
) -> tuple[Messages, dict[int, str]]:
    """The ClientHello messages in QUIC Initial packets, and the names that Google's CHLO gave.

    Args:
        segments: the kept segments of n flows.
        wanted: UDP flows to look at, shape (n,).

    Returns:
        TLS messages, and flow to server name for versions whose hello is not TLS.
    """
    listed = initials(segments, wanted)
    if not listed.size:
        return Messages(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.uint8)), {}
    hellos: dict[int, bytes] = {}
    names: dict[int, str] = {}
    rest = np.ones(listed.shape[1], dtype=np.bool_)
    for side in range(2):  # the server's is examined if the client's has no hello
        packets = np.flatnonzero(rest & (listed[_SIDE] == side))
        for flow, stream in read_streams(segments.data, listed, packets):
            if stream[:1] == b"\x01" and len(stream) >= 44:
                hellos[flow] = stream
            elif (name := _google_name(stream)) is not None:
                names[flow] = name
        if side == 0:
            is_found = np.zeros(len(wanted), dtype=np.bool_)
            is_found[[*hellos, *names]] = True
            rest = ~is_found[listed[_FLOW]]
    rows = sorted(hellos)
    start = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(hellos[row]) for row in rows], out=start[1:])
    data = np.frombuffer(b"".join(hellos[row] for row in rows), dtype=np.uint8)
    return Messages(np.array(rows, dtype=np.int64), start, data), names


def initials(segments: SegmentColumns, wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The packets of ``list_initials``, shape (10, k)."""
    room = np.empty((10, max(len(wanted), 2)), dtype=np.int64)
    while True:
        n = list_initials(
            wanted,
            segments.first,
            segments.to_server,
            segments.start,
            segments.data,
            _VERSIONS,
            room,
        )
        if n <= room.shape[1]:
            return room[:, :n]
        room = np.empty((10, n), dtype=np.int64)


def read_streams(
    data: NDArray[np.uint8], listed: NDArray[np.int64], packets: NDArray[np.int64]
) -> list[tuple[int, bytes]]:
    """The crypto stream of each flow, from its Initial packets that can be opened.

    Args:
        data: the bytes that ``listed`` points into.
        listed: as ``initials`` gives it.
        packets: which of them, ascending, of one direction.

    Returns:
        Flow and stream; the stream is that of ``join_streams``.
    """
    opened: dict[int, bytes] = {}
    key = listed[_FIRST].copy()
    sealed = packets[listed[_KIND, packets] == _PACKET]
    _open(data, listed, sealed, key, opened)
    # keys come from the first Initial's id; after a Retry, and of another connection, from the new one
    other_key = sealed[listed[_OWN, sealed] != key[sealed]]
    closed = np.array([each for each in other_key.tolist() if each not in opened], dtype=np.int64)
    key[closed] = listed[_OWN, closed]
    _open(data, listed, closed, key, opened)
    for packet in packets[listed[_KIND, packets] == _CHLO].tolist():
        datagram = data[listed[_BEGIN, packet] : listed[_END, packet]].tobytes()
        if b"CHLO" in datagram:  # Google QUIC before Q050 does not encrypt its hello
            opened[packet] = datagram
    return _join(listed, key, opened)


def _open(
    data: NDArray[np.uint8],
    listed: NDArray[np.int64],
    packets: NDArray[np.int64],
    key: NDArray[np.int64],
    opened: dict[int, bytes],
) -> None:
    """Decrypts the packets that can be into ``opened``; the keys of packet i come from the id of ``key[i]``."""
    if not len(packets):
        return
    number_of = np.zeros(listed.shape[1], dtype=np.int64)
    number_of[key[packets]] = 1
    ids = np.flatnonzero(number_of)
    number_of[ids] = np.arange(len(ids))
    connection = number_of[key[packets]]
    version = listed[_VERSION, ids]
    salt = np.searchsorted(_VERSIONS, version)
    salt[version & 0x0F0F0F0F == _RESERVED] = len(_VERSIONS)
    label = ((version == _QUIC_2) | (version == _QUIC_2_DRAFT)).astype(np.int64)
    connections = Connections(listed[_BEGIN, ids], listed[_ID_END, ids], salt, label, _SALTS)
    begin, number, end = (listed[row, packets] for row in (_BEGIN, _NUMBER, _END))
    found = unprotect(data, connections, connection, begin, number, end)
    ciphers = [AESGCM(secret) for secret in found.keys]
    columns = (packets, connection, begin, end)
    for packet, cipher, first, stop, nonce, header in zip(
        *(column.tolist() for column in columns), found.nonces, found.headers, strict=True
    ):
        if header:
            body = data[first - BEFORE_ID + len(header) : stop].tobytes()
            with suppress(InvalidTag):
                opened[packet] = ciphers[cipher].decrypt(nonce, body, header)


def _join(
    listed: NDArray[np.int64], key: NDArray[np.int64], opened: dict[int, bytes]
) -> list[tuple[int, bytes]]:
    """Each flow and the stream that its opened packets give."""
    packets = np.array(sorted(opened), dtype=np.int64)
    plain = [opened[packet] for packet in packets.tolist()]
    start = np.zeros(len(plain) + 1, dtype=np.int64)
    np.cumsum([len(each) for each in plain], out=start[1:])
    version = listed[_VERSION, packets]
    kind = np.where((version == _T050) | (version == _T051), 8, 6)
    kind[version == _Q050] = IS_STREAM
    kind[listed[_KIND, packets] == _CHLO] = IS_STREAM_IF_FIRST
    flow = listed[_FLOW, packets]
    first = np.flatnonzero(np.diff(flow, prepend=-1))
    ends = np.empty(len(first) + 1, dtype=np.int64)
    out = np.empty(int(start[-1]), dtype=np.uint8)
    joined = np.frombuffer(b"".join(plain), dtype=np.uint8)
    join_streams(np.append(first, len(plain)), key[packets], kind, start, joined, ends, out)
    stream, cuts = out.tobytes(), ends.tolist()
    return [
        (flow, stream[begin:end])
        for flow, (begin, end) in zip(flow[first].tolist(), pairwise(cuts), strict=True)
    ]


def _google_name(stream: bytes) -> str | None:
    """The SNI tag of a CHLO: tags of four bytes and the ends of their values, little-endian."""
    at = stream.find(b"CHLO")
    if at < 0 or at + 8 > len(stream):
        return None
    n_tags = int.from_bytes(stream[at + 4 : at + 6], "little")
    values = at + 8 + 8 * n_tags
    begin = 0
    for place in range(at + 8, min(values, len(stream) - 7), 8):
        end = int.from_bytes(stream[place + 4 : place + 8], "little")
        if stream[place : place + 4] == b"SNI\0":
            name = stream[values + begin : values + end]
            if len(name) != end - begin:
                return None
            return escape(name) or None
        begin = end
    return None
