"""UDP segments in, ClientHello messages out: QUIC Initial packets opened with the published salts.

Sources: RFC 9000 section 17.2 (packets), 19 (frames); RFC 9001 section 5 (keys, header protection);
RFC 9369 (version 2); the drafts' salts; Google QUIC's crypto document for the SNI tag of a CHLO.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numba import njit

from apptell.flows.tls import Messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from apptell.flows.schema import SegmentColumns

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
_VERSION_2: Final = frozenset({0x6B3343CF, 0x709A50C4})
_MAX_CRYPTO: Final = 1 << 16
_kernel = njit(cache=True, nogil=True)


class _Keys(NamedTuple):
    seal: AESGCM
    nonce: bytes
    mask: Cipher[modes.ECB]


@_kernel
def mark_long_headers(
    wanted: NDArray[np.bool_],
    first: NDArray[np.int64],
    start: NDArray[np.int64],
    data: NDArray[np.uint8],
    out: NDArray[np.bool_],
) -> None:
    """Marks the wanted flows with a segment that may begin QUIC: a long header, or Google's CHLO."""
    for flow in range(len(wanted)):
        out[flow] = False
        if not wanted[flow]:
            continue
        for segment in range(first[flow], first[flow + 1]):
            at, end = start[segment], start[segment + 1]
            if end - at < 20:
                continue
            if data[at] & 0x80 and end - at >= 64:
                out[flow] = True
                break
            if data[at] & 9 == 9 and data[at + 9] == 81 and data[at + 10] == 48:  # "Q0"
                out[flow] = True
                break


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
    marked = np.zeros(len(wanted), dtype=np.bool_)
    mark_long_headers(wanted, segments.first, segments.start, segments.data, marked)
    rows: list[int] = []
    hellos: list[bytes] = []
    names: dict[int, str] = {}
    for flow in np.flatnonzero(marked).tolist():
        span = range(int(segments.first[flow]), int(segments.first[flow + 1]))
        for direction in (True, False):
            stream = read_flow(
                segments.data[segments.start[row] : segments.start[row + 1]].tobytes()
                for row in span
                if segments.to_server[row] == direction
            )
            if stream[:1] == b"\x01" and len(stream) >= 44:
                rows.append(flow)
                hellos.append(stream)
            elif (name := _google_name(stream)) is not None:
                names[flow] = name
            else:
                continue
            break
    start = np.zeros(len(hellos) + 1, dtype=np.int64)
    np.cumsum([len(hello) for hello in hellos], out=start[1:])
    data = np.frombuffer(b"".join(hellos), dtype=np.uint8)
    return Messages(np.array(rows, dtype=np.int64), start, data), names


def read_flow(datagrams: Iterable[bytes]) -> bytes:
    """The client's crypto stream from its datagrams, as far as it is there without a gap.

    Datagrams are in order of arrival. Ends early when a whole ClientHello is there.
    """
    pieces: list[tuple[int, bytes]] = []
    firsts: dict[int, bytes] = {}
    stream = b""
    for datagram in datagrams:
        if b"CHLO" in datagram and not pieces:
            return datagram  # Google QUIC before Q050 seals its hello with no key
        n_before = len(pieces)
        for version, packet_type, connection, header_end, packet in _long_packets(datagram):
            if packet_type != 0 or _salt(version) is None:
                continue
            plain = None
            # keys come from the first Initial's id; after a Retry from the new one
            for candidate in dict.fromkeys((firsts.setdefault(version, connection), connection)):
                plain = _open(version, candidate, packet, header_end)
                if plain is not None:
                    break
            if plain is not None:
                if version == 0x51303530:
                    return plain
                pieces.extend(_crypto_frames(plain, 8 if version in _GOOGLE_TLS else 6))
        if len(pieces) > n_before:
            stream = _join(pieces)
            if len(stream) >= 4 and len(stream) >= 4 + int.from_bytes(stream[1:4], "big"):
                return stream
    return stream


def _long_packets(datagram: bytes) -> Iterator[tuple[int, int, bytes, int, bytes]]:
    """Version, type (0 Initial), destination id, offset of the packet number, bytes of each packet."""
    at, end = 0, len(datagram)
    while end - at >= 7 and datagram[at] & 0x80:
        version = int.from_bytes(datagram[at + 1 : at + 5], "big")
        place = at + 6 + datagram[at + 5]
        if place >= end or version == 0:
            return
        connection = datagram[at + 6 : place]
        place += 1 + datagram[place]
        packet_type = datagram[at] >> 4 & 3
        if version in _VERSION_2:
            packet_type = (packet_type - 1) & 3  # RFC 9369, section 3.2
        if packet_type == 3:  # Retry has no length
            return
        if packet_type == 0:
            size, place = _varint(datagram, place)
            if size < 0:
                return
            place += size
        size, place = _varint(datagram, place)
        if size < 0:
            return
        yield version, packet_type, connection, place - at, datagram[at : place + size]
        at = place + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer (RFC 9000, section 16) and what follows it; -1 where it is cut."""
    if at >= len(data):
        return -1, at
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        return -1, at
    value = int.from_bytes(data[at : at + size], "big") & ((1 << (8 * size - 2)) - 1)
    return value, at + size


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
        _expand(secret, f"{prefix} iv", 12),
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
    number = bytes(
        a ^ b for a, b in zip(packet[header_end : header_end + size], mask[1:5], strict=False)
    )
    header = bytes([flags]) + packet[1:header_end] + number
    counter = int.from_bytes(keys.nonce, "big") ^ int.from_bytes(number, "big")
    try:
        return keys.seal.decrypt(counter.to_bytes(12, "big"), packet[header_end + size :], header)
    except InvalidTag:
        return None


def _salt(version: int) -> bytes | None:
    if version & 0x0F0F0F0F == 0x0A0A0A0A:
        return (
            _DRAFT_29  # reserved to force version negotiation: clients of that time used this one
        )
    return SALTS.get(version)


def _crypto_frames(plain: bytes, crypto: int) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each CRYPTO frame; stops at a frame that no Initial packet may hold.

    ``crypto`` is the frame's type: 6, or 8 in Google's T050 and T051.
    """
    at = 0
    while at < len(plain):
        kind = plain[at]
        at += 1
        if kind == 0:  # PADDING, most of a packet: all of it at once
            at = len(plain) - len(plain[at:].lstrip(b"\0"))
            continue
        if kind == 1:  # PING
            continue
        n_fields = {2: 4, 3: 4, crypto: 2}.get(kind, 0)
        if not n_fields:
            return
        fields = []
        for _ in range(n_fields):
            value, at = _varint(plain, at)
            if value < 0:
                return
            fields.append(value)
        if kind == crypto:
            offset, size = fields
            if offset + size > _MAX_CRYPTO:
                return
            yield offset, plain[at : at + size]
            at += size
            continue
        for _ in range(2 * fields[2] + (3 if kind == 3 else 0)):  # ACK ranges, ECN counts
            value, at = _varint(plain, at)
            if value < 0:
                return


def _join(pieces: list[tuple[int, bytes]]) -> bytes:
    stream = bytearray()
    for offset, data in sorted(pieces):
        if offset > len(stream):
            break
        stream += data[len(stream) - offset :]
    return bytes(stream)


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
            return bytes(byte for byte in name if 32 < byte < 127).decode("ascii") or None
        begin = end
    return None
