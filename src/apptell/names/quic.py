"""Decrypts QUIC Initial packets with the published salts, and joins their ClientHello messages.

Sources: RFC 9000 section 17.2 (packets), 19 (frames); RFC 9001 section 5 (keys, header protection);
RFC 9369 (version 2); the drafts' salts; Google QUIC's crypto document for the SNI tag of a CHLO.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from apptell.kernels.compiled import inlined, kernel
from apptell.names.text import escape
from apptell.names.tls import Messages

if TYPE_CHECKING:
    from collections.abc import Iterable

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
_GOOGLE_TLS: Final = frozenset({0x54303530, 0x54303531})
_QUIC_2: Final = 0x6B3343CF
_QUIC_2_DRAFT: Final = 0x709A50C4
_VERSION_2: Final = frozenset({_QUIC_2, _QUIC_2_DRAFT})
_Q050: Final = 0x51303530
_RESERVED: Final = 0x0A0A0A0A
"""Versions that look so behind a mask of 0x0f0f0f0f force version negotiation."""
_MAX_CRYPTO: Final = 1 << 16
_MAX_FRAMES: Final = 1024
"""CRYPTO frames that one packet of 4,096 kept bytes can hold with a byte or more each."""


_VERSIONS: Final = np.array(sorted(SALTS), dtype=np.int64)
_PACKET, _CHLO = 0, 1
"""Kinds of ``list_initials``' rows: an Initial packet; a datagram that may hold a CHLO in the clear."""


class _Keys(NamedTuple):
    seal: AESGCM
    nonce: int
    mask: Cipher[modes.ECB]


@inlined
def _varint_at(data: NDArray[np.uint8], at: Any, end: Any) -> tuple[Any, Any]:
    """A variable-length integer (RFC 9000, section 16) and what follows it; -1 where it is cut."""
    if at >= end:
        return np.int64(-1), at
    size = 1 << (data[at] >> 6)
    if at + size > end:
        return np.int64(-1), at
    value = np.int64(data[at]) & 63
    for place in range(at + 1, at + size):
        value = (value << 8) | np.int64(data[place])
    return value, at + size


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
        out: int64 (k, 8), out: flow, direction, kind, version, begin of destination id, its end and that of
            the packet number, end of the packet; where the packet begins is what precedes the id by 6.

    Returns:
        How many there are; of more than k the first k are written.
    """
    count = 0
    for flow in range(len(wanted)):
        if not wanted[flow]:
            continue
        for side in range(2):
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
                    if count < len(out):  # "Q0"
                        out[count, 0], out[count, 1], out[count, 2] = flow, side, _CHLO
                        out[count, 4], out[count, 7] = at, end
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
                        size, place = _varint_at(data, place, end)
                        if size < 0:
                            break
                        place += size
                    size, place = _varint_at(data, place, end)
                    if size < 0:
                        break
                    if packet_type == 0:
                        spot = np.searchsorted(versions, version)
                        is_known = spot < len(versions) and versions[spot] == version
                        if is_known or version & 0x0F0F0F0F == _RESERVED:
                            if count < len(out):
                                out[count, 0], out[count, 1], out[count, 2] = flow, side, _PACKET
                                out[count, 3], out[count, 4], out[count, 5] = version, begin, id_end
                                out[count, 6], out[count, 7] = place, min(place + size, end)
                            count += 1
                    at = place + size
    return count


@kernel
def list_crypto(plain: NDArray[np.uint8], crypto: int, out: NDArray[np.int64]) -> int:
    """Lists the CRYPTO frames of an opened packet up to a frame that no Initial packet may hold.

    Args:
        plain: the packet's frames.
        crypto: the frame's type: 6, or 8 in Google's T050 and T051.
        out: int64 (k, 3), out: offset in the stream, first byte and its end in ``plain``.

    Returns:
        How many there are, at most k.
    """
    at: Any = 0
    n = 0
    while at < len(plain) and n < len(out):
        kind = plain[at]
        at += 1
        if kind == 0 or kind == 1:  # PADDING, PING
            continue
        if kind != crypto and kind != 2 and kind != 3:
            break
        offset, at = _varint_at(plain, at, len(plain))  # ACK: the largest number
        if offset < 0:
            break
        size, at = _varint_at(plain, at, len(plain))  # ACK: the delay
        if size < 0:
            break
        if kind == crypto:
            if offset + size > _MAX_CRYPTO:
                break
            out[n, 0], out[n, 1], out[n, 2] = offset, at, min(at + size, len(plain))
            n += 1
            at += size
            continue
        ranges, at = _varint_at(plain, at, len(plain))
        if ranges < 0:
            break
        for _ in range(2 * ranges + (4 if kind == 3 else 1)):  # first range, ranges, ECN counts
            size, at = _varint_at(plain, at, len(plain))
            if size < 0:
                return n
    return n


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
    rows: list[int] = []
    hellos: list[bytes] = []
    names: dict[int, str] = {}
    found = -1
    for (flow, _), packets in groupby(initials(segments, wanted), key=itemgetter(0, 1)):
        if flow == found:
            continue  # the server's side is examined if the client's has no hello
        stream = read_stream(segments.data, packets)
        if stream[:1] == b"\x01" and len(stream) >= 44:
            rows.append(flow)
            hellos.append(stream)
        elif (name := _google_name(stream)) is not None:
            names[flow] = name
        else:
            continue
        found = flow
    start = np.zeros(len(hellos) + 1, dtype=np.int64)
    np.cumsum([len(hello) for hello in hellos], out=start[1:])
    data = np.frombuffer(b"".join(hellos), dtype=np.uint8)
    return Messages(np.array(rows, dtype=np.int64), start, data), names


def initials(segments: SegmentColumns, wanted: NDArray[np.bool_]) -> list[list[int]]:
    """The rows of ``list_initials``."""
    room: NDArray[np.int64] = np.empty((len(wanted), 8), dtype=np.int64)
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
        if n <= len(room):
            listed: list[list[int]] = room[:n].tolist()
            return listed
        room = np.empty((n, 8), dtype=np.int64)


def read_stream(data: NDArray[np.uint8], packets: Iterable[list[int]]) -> bytes:
    """One side's crypto stream from its Initial packets, up to its first gap.

    Packets of another version or connection are another stream; the first with a whole ClientHello is given.

    Args:
        data: the bytes that ``packets`` point into.
        packets: rows of one flow and direction of ``list_initials``.
    """
    pieces: dict[
        tuple[int, bytes], list[tuple[int, bytes]]
    ] = {}  # by version and connection id of the keys
    firsts: dict[int, bytes] = {}
    for _, _, kind, version, begin, id_end, number, end in packets:
        if kind == _CHLO:
            datagram = data[begin:end].tobytes()
            if b"CHLO" in datagram and not pieces:
                return datagram  # Google QUIC before Q050 does not encrypt its hello
            continue
        packet = data[begin - 6 : end].tobytes()
        connection = packet[6 : id_end - begin + 6]
        plain = None
        # keys come from the first Initial's id; after a Retry, and of another connection, from the new one
        for candidate in dict.fromkeys((firsts.setdefault(version, connection), connection)):
            plain = _open(version, candidate, packet, number - begin + 6)
            if plain is not None:
                connection = candidate
                break
        if plain is None:
            continue
        if version == _Q050:
            return plain
        frames: NDArray[np.int64] = np.empty((_MAX_FRAMES, 3), dtype=np.int64)
        n = list_crypto(
            np.frombuffer(plain, dtype=np.uint8), 8 if version in _GOOGLE_TLS else 6, frames
        )
        if n:
            sent = pieces.setdefault((version, connection), [])
            sent += [(offset, plain[at:stop]) for offset, at, stop in frames[:n].tolist()]
    longest = b""
    for sent in pieces.values():
        stream = _join(sent)
        if len(stream) >= 4 and len(stream) >= 4 + int.from_bytes(stream[1:4], "big"):
            return stream
        longest = max(longest, stream, key=len)
    return longest


def _expand(secret: bytes, label: str, size: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446, section 7.1, for at most 32 bytes: one block."""
    name = b"tls13 " + label.encode()
    info = size.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0\1"
    return hmac.digest(secret, info, sha256)[:size]


@lru_cache(maxsize=64)
def _derive(version: int, connection: bytes) -> _Keys:
    """The client's Initial keys (RFC 9001, section 5.2)."""
    extracted = hmac.digest(_salt(version) or b"", connection, sha256)
    secret = _expand(extracted, "client in", 32)
    prefix = "quicv2" if version in _VERSION_2 else "quic"
    return _Keys(
        AESGCM(_expand(secret, f"{prefix} key", 16)),
        int.from_bytes(_expand(secret, f"{prefix} iv", 12), "big"),
        Cipher(algorithms.AES(_expand(secret, f"{prefix} hp", 16)), modes.ECB()),
    )


def _open(version: int, connection: bytes, packet: bytes, header_end: int) -> bytes | None:
    """The frames of an Initial packet, or None where the keys do not fit or bytes are missing."""
    sample = packet[header_end + 4 : header_end + 20]
    if len(sample) < 16:
        return None
    keys = _derive(version, connection)
    mask = keys.mask.encryptor().update(sample)
    flags = packet[0] ^ (mask[0] & 0x0F)
    size = (flags & 3) + 1
    hidden = int.from_bytes(packet[header_end : header_end + size], "big")
    number = hidden ^ int.from_bytes(mask[1 : 1 + size], "big")
    header = bytes([flags]) + packet[1:header_end] + number.to_bytes(size, "big")
    nonce = (keys.nonce ^ number).to_bytes(12, "big")
    try:
        return keys.seal.decrypt(nonce, packet[header_end + size :], header)
    except InvalidTag:
        return None


def _salt(version: int) -> bytes | None:
    if version & 0x0F0F0F0F == _RESERVED:
        return (
            _DRAFT_29  # reserved to force version negotiation: clients of that time used this one
        )
    return SALTS.get(version)


def _join(pieces: list[tuple[int, bytes]]) -> bytes:
    """The stream up to its first gap, and to the first byte of which two versions were sent."""
    stream = bytearray()
    contested = _MAX_CRYPTO
    for offset, data in sorted(pieces):
        if offset > len(stream):
            break
        again = stream[offset : offset + len(data)]
        if data[: len(again)] != again:
            contested = min(contested, offset + _equal_bytes(again, data))
        stream += data[len(again) :]
    return bytes(stream[:contested])


def _equal_bytes(one: bytes | bytearray, other: bytes) -> int:
    """How many bytes two strings begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


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
