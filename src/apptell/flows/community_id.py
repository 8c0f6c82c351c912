"""5-tuples in, Community ID v1 out: the flow hash that Zeek, Suricata and others share.

Source: the Community ID specification, version 1: ``1:`` and the base64 of SHA-1 (FIPS 180-4) over seed,
the two addresses, protocol, a zero byte and the two ports, the smaller endpoint first.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH: Final = 30
"""Characters of an id: ``1:`` and 28 of base64."""
_ALPHABET: Final = np.frombuffer(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", dtype=np.uint8
)
_kernel = njit(cache=True, nogil=True)
_inline = njit(inline="always")


def community_id(
    protocol: int,
    client_address: str,
    client_port: int,
    server_address: str,
    server_port: int,
    seed: int = 0,
) -> str:
    """The id of one flow, whichever side is named client.

    Args:
        protocol: IP protocol number (6, 17, 132).
        client_address: IPv4 or IPv6 as text.
        client_port: its port.
        server_address: IPv4 or IPv6 as text.
        server_port: its port.
        seed: 16-bit seed; tools share 0.

    Raises:
        ValueError: an address is none.
    """
    ends = sorted(
        (ipaddress.ip_address(address).packed, port)
        for address, port in ((client_address, client_port), (server_address, server_port))
    )
    data = (
        seed.to_bytes(2, "big")
        + ends[0][0]
        + ends[1][0]
        + bytes([protocol, 0])
        + ends[0][1].to_bytes(2, "big")
        + ends[1][1].to_bytes(2, "big")
    )
    return "1:" + base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


@_inline
def _rotate(value, bits):
    return ((value << np.uint32(bits)) | (value >> np.uint32(32 - bits))) & np.uint32(0xFFFFFFFF)


@_kernel
def write_ids(protocol, client, server, is_ipv6, client_port, server_port, seed, alphabet, out):
    """Writes n ids of 30 characters into ``out``, shape (n, 30); addresses are (n, 16), IPv4 last."""
    block = np.zeros(64, dtype=np.uint8)
    word = np.zeros(80, dtype=np.uint32)
    digest = np.zeros(21, dtype=np.uint8)
    for row in range(len(protocol)):
        first = 0 if is_ipv6[row] else 12
        order = 0
        for byte in range(first, 16):
            if client[row, byte] != server[row, byte]:
                order = -1 if client[row, byte] < server[row, byte] else 1
                break
        if order == 0:
            order = -1 if client_port[row] < server_port[row] else 1
        low, high = (client, server) if order < 0 else (server, client)
        low_port = np.int64(client_port[row] if order < 0 else server_port[row])
        high_port = np.int64(server_port[row] if order < 0 else client_port[row])
        block[:] = 0
        block[0] = seed >> 8
        block[1] = seed & 255
        at = 2
        for byte in range(first, 16):
            block[at] = low[row, byte]
            block[at + 16 - first] = high[row, byte]
            at += 1
        at += 16 - first
        block[at] = protocol[row]
        block[at + 2] = low_port >> 8
        block[at + 3] = low_port & 255
        block[at + 4] = high_port >> 8
        block[at + 5] = high_port & 255
        at += 6
        block[at] = 0x80
        block[62] = (at * 8) >> 8
        block[63] = (at * 8) & 255
        for index in range(16):
            word[index] = (
                (np.uint32(block[4 * index]) << np.uint32(24))
                | (np.uint32(block[4 * index + 1]) << np.uint32(16))
                | (np.uint32(block[4 * index + 2]) << np.uint32(8))
                | np.uint32(block[4 * index + 3])
            )
        for index in range(16, 80):
            word[index] = _rotate(
                word[index - 3] ^ word[index - 8] ^ word[index - 14] ^ word[index - 16], 1
            )
        a, b, c, d, e = (
            np.uint32(0x67452301),
            np.uint32(0xEFCDAB89),
            np.uint32(0x98BADCFE),
            np.uint32(0x10325476),
            np.uint32(0xC3D2E1F0),
        )
        for index in range(80):
            if index < 20:
                mixed, constant = (b & c) | (~b & d), np.uint32(0x5A827999)
            elif index < 40:
                mixed, constant = b ^ c ^ d, np.uint32(0x6ED9EBA1)
            elif index < 60:
                mixed, constant = (b & c) | (b & d) | (c & d), np.uint32(0x8F1BBCDC)
            else:
                mixed, constant = b ^ c ^ d, np.uint32(0xCA62C1D6)
            following = np.uint32(_rotate(a, 5) + mixed + e + constant + word[index])
            e, d, c, b, a = d, c, _rotate(b, 30), a, following
        state = (
            np.uint32(a + np.uint32(0x67452301)),
            np.uint32(b + np.uint32(0xEFCDAB89)),
            np.uint32(c + np.uint32(0x98BADCFE)),
            np.uint32(d + np.uint32(0x10325476)),
            np.uint32(e + np.uint32(0xC3D2E1F0)),
        )
        for index in range(5):
            for byte in range(4):
                digest[4 * index + byte] = (state[index] >> np.uint32(24 - 8 * byte)) & np.uint32(
                    255
                )
        out[row, 0] = 49
        out[row, 1] = 58
        for group in range(7):
            bits = (
                (np.int64(digest[3 * group]) << 16)
                | (np.int64(digest[3 * group + 1]) << 8)
                | np.int64(digest[3 * group + 2])
            )
            for place in range(4):
                out[row, 2 + 4 * group + place] = alphabet[(bits >> (18 - 6 * place)) & 63]
        out[row, 29] = 61  # 20 bytes leave one place of padding


def community_ids(
    protocol: NDArray[np.uint8],
    client: NDArray[np.uint8],
    server: NDArray[np.uint8],
    is_ipv6: NDArray[np.bool_],
    client_port: NDArray[np.uint16],
    server_port: NDArray[np.uint16],
    seed: int = 0,
) -> pa.Array:
    """Ids of n flows as an Arrow string array.

    Args:
        protocol: shape (n,).
        client: addresses, shape (n, 16), IPv4 in the last four bytes.
        server: likewise.
        is_ipv6: shape (n,).
        client_port: shape (n,).
        server_port: shape (n,).
        seed: 16-bit seed.
    """
    n = len(protocol)
    out: NDArray[Any] = np.empty((n, LENGTH), dtype=np.uint8)
    write_ids(protocol, client, server, is_ipv6, client_port, server_port, seed, _ALPHABET, out)
    ends = np.arange(n + 1, dtype=np.int32) * LENGTH
    return pa.StringArray.from_buffers(n, pa.py_buffer(ends), pa.py_buffer(out))
