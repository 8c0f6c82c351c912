"""Computes Community ID v1, the flow hash that Zeek, Suricata and other tools share.

Source: the Community ID specification, version 1: ``1:`` and the base64 of SHA-1 (FIPS 180-4) over seed,
the two addresses, protocol, a zero byte and the two ports, the smaller endpoint first.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.flows.plain_columns import Text
from apptell.kernels.compiled import inlined, kernel, subroutine
from apptell.packets.byte_fields import be32

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH: Final = 30
"""Characters of an id: ``1:`` and 28 of base64."""
_ALPHABET: Final = np.frombuffer(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", dtype=np.uint8
)
_LANES: Final = 128
_FEW: Final = 128
"""Up to so many ids take less time in Python than the kernel takes to be compiled or loaded."""
_FEW_LOADED: Final = 5
"""Up to so many take less time in Python than a call of the loaded kernel, which does ``_LANES`` at once."""
_START_A, _START_B, _START_C, _START_D, _START_E = (
    np.uint32(word) for word in (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)
)


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
    client = (ipaddress.ip_address(client_address).packed, client_port)
    server = (ipaddress.ip_address(server_address).packed, server_port)
    return _one_id(bytes([protocol]), client, server, seed)


def _one_id(
    protocol: bytes, client: tuple[bytes, int], server: tuple[bytes, int], seed: int
) -> str:
    low, high = sorted((client, server))
    ports = low[1].to_bytes(2, "big") + high[1].to_bytes(2, "big")
    data = seed.to_bytes(2, "big") + low[0] + high[0] + protocol + b"\0" + ports
    return "1:" + base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


@inlined
def _rotate(value, bits):
    return (value << np.uint32(bits)) | (value >> np.uint32(32 - bits))


@inlined
def _step(step, kind, constant, words, states):
    for lane in range(words.shape[1]):
        b = states[step + 3, lane]
        c = _rotate(states[step + 2, lane], 30)
        d = _rotate(states[step + 1, lane], 30)
        if kind == 0:
            mixed = (b & c) | (~b & d)
        elif kind == 1:
            mixed = b ^ c ^ d
        else:
            mixed = (b & c) | (b & d) | (c & d)
        turned = _rotate(states[step + 4, lane], 5) + _rotate(states[step, lane], 30)
        states[step + 5, lane] = np.uint32(turned + mixed + constant + words[step, lane])


@subroutine
def hash_blocks(words, states):
    """SHA-1 (FIPS 180-4, section 6.1.2) of one 64-byte block in each lane.

    Each step is done for all lanes at once, so that the processor's vector instructions are used.

    Args:
        words: uint32 (80, lanes); rows 0 to 15 hold the blocks, big-endian words; the others are filled in.
        states: uint32 (85, lanes); row 84 - i of the last five is digest word i at the end.
    """
    lanes = words.shape[1]
    for step in range(16, 80):
        for lane in range(lanes):
            words[step, lane] = _rotate(
                words[step - 3, lane]
                ^ words[step - 8, lane]
                ^ words[step - 14, lane]
                ^ words[step - 16, lane],
                1,
            )
    # Row t + 4 is ``a`` before step t; b to e are the rows before it, turned where they were used.
    for lane in range(lanes):
        states[0, lane] = _rotate(_START_E, 2)
        states[1, lane] = _rotate(_START_D, 2)
        states[2, lane] = _rotate(_START_C, 2)
        states[3, lane] = _START_B
        states[4, lane] = _START_A
    for step in range(80):
        if step < 20:
            _step(step, 0, np.uint32(0x5A827999), words, states)
        elif step < 40:
            _step(step, 1, np.uint32(0x6ED9EBA1), words, states)
        elif step < 60:
            _step(step, 2, np.uint32(0x8F1BBCDC), words, states)
        else:
            _step(step, 1, np.uint32(0xCA62C1D6), words, states)
    for lane in range(lanes):
        states[84, lane] += _START_A
        states[83, lane] += _START_B
        states[82, lane] = np.uint32(_rotate(states[82, lane], 30) + _START_C)
        states[81, lane] = np.uint32(_rotate(states[81, lane], 30) + _START_D)
        states[80, lane] = np.uint32(_rotate(states[80, lane], 30) + _START_E)


@kernel
def write_ids(protocol, client, server, is_ipv6, client_port, server_port, seed, alphabet, out):
    """Writes n ids of 30 characters into ``out``, shape (n, 30); addresses are (n, 16), IPv4 last."""
    block = np.zeros(64, dtype=np.uint8)
    words = np.zeros((80, _LANES), dtype=np.uint32)
    states = np.zeros((85, _LANES), dtype=np.uint32)
    digest = np.zeros(21, dtype=np.uint8)
    for begin in range(0, len(protocol), _LANES):
        n = min(_LANES, len(protocol) - begin)
        for lane in range(n):
            row = begin + lane
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
                words[index, lane] = np.uint32(be32(block, 4 * index))
        hash_blocks(words, states)
        for lane in range(n):
            for index in range(20):
                word = np.int64(states[84 - index // 4, lane])
                digest[index] = (word >> (24 - 8 * (index % 4))) & 255
            row = begin + lane
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
) -> Text:
    """Ids of n flows as a column of texts (``plain_columns``).

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
    ends = np.arange(n + 1, dtype=np.int32) * LENGTH
    if n <= (_FEW_LOADED if write_ids.signatures else _FEW):
        ids = [
            _one_id(
                protocol[i : i + 1].tobytes(),
                (client[i, 12 * (not is_ipv6[i]) :].tobytes(), int(client_port[i])),
                (server[i, 12 * (not is_ipv6[i]) :].tobytes(), int(server_port[i])),
                seed,
            )
            for i in range(n)
        ]
        return Text(ends, np.frombuffer("".join(ids).encode(), dtype=np.uint8))
    out: NDArray[Any] = np.empty((n, LENGTH), dtype=np.uint8)
    write_ids(protocol, client, server, is_ipv6, client_port, server_port, seed, _ALPHABET, out)
    return Text(ends, out.reshape(-1))
