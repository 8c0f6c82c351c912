"""Derives the keys of QUIC Initial packets, and removes the protection of their headers; compiled code.

The keys of all connections are derived in one call, which takes less time than a call of a library for each of
their five HMACs. Payload is decrypted by a library (``names.quic``).

Sources: RFC 9001 sections 5.2 (keys) and 5.4 (header protection); RFC 8446 section 7.1 and RFC 5869 (HKDF);
RFC 2104 (HMAC); FIPS 180-4 section 6.2 (SHA-256); FIPS 197 (AES-128).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.kernels.compiled import inlined, kernel, subroutine
from apptell.packets.byte_fields import be32

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ID_BYTES: Final = 20
"""Bytes of the longest connection id (RFC 9000, section 17.2)."""
KEY_BYTES: Final = 44
"""Bytes of the keys of one connection: AEAD key (16), IV (12), header protection key (16)."""
NONCE_BYTES: Final = 12
LABELS: Final = ("quic", "quicv2")
"""What the labels of a connection's keys begin with (RFC 9369, section 3.3.2)."""
_SAMPLE_AT: Final = 4
_SAMPLE_BYTES: Final = 16
BEFORE_ID: Final = 6
"""Bytes of a long header before the destination connection id."""


def _words(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(bytes.fromhex(text), dtype=">u4").astype(np.uint32)


_ROUND_CONSTANTS: Final = _words(
    "428a2f9871374491b5c0fbcfe9b5dba53956c25b59f111f1923f82a4ab1c5ed5d807aa9812835b01"
    "243185be550c7dc372be5d7480deb1fe9bdc06a7c19bf174e49b69c1efbe47860fc19dc6240ca1cc"
    "2de92c6f4a7484aa5cb0a9dc76f988da983e5152a831c66db00327c8bf597fc7c6e00bf3d5a79147"
    "06ca63511429296727b70a852e1b21384d2c6dfc53380d13650a7354766a0abb81c2c92e92722c85"
    "a2bfe8a1a81a664bc24b8b70c76c51a3d192e819d6990624f40e3585106aa07019a4c1161e376c08"
    "2748774c34b0bcb5391c0cb34ed8aa4a5b9cca4f682e6ff3748f82ee78a5636f84c878148cc70208"
    "90befffaa4506cebbef9a3f7c67178f2"
)
_FIRST_STATE: Final = _words("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19")
_S_BOX: Final = np.frombuffer(
    bytes.fromhex(
        "637c777bf26b6fc53001672bfed7ab76ca82c97dfa5947f0add4a2af9ca472c0b7fd9326363ff7cc"
        "34a5e5f171d8311504c723c31896059a071280e2eb27b27509832c1a1b6e5aa0523bd6b329e32f84"
        "53d100ed20fcb15b6acbbe394a4c58cfd0efaafb434d338545f9027f503c9fa851a3408f929d38f5"
        "bcb6da2110fff3d2cd0c13ec5f974417c4a77e3d645d197360814fdc222a908846eeb814de5e0bdb"
        "e0323a0a4906245cc2d3ac629195e479e7c8376d8dd54ea96c56f4ea657aae08ba78252e1ca6b4c6"
        "e8dd741f4bbd8b8a703eb5664803f60e613557b986c11d9ee1f8981169d98e949b1e87e9ce5528df"
        "8ca1890dbfe6426841992d0fb054bb16"
    ),
    dtype=np.uint8,
)


def _second_block(message: bytes) -> NDArray[np.uint32]:
    """A short message as the last block that HMAC's inner hash takes, after the block of its key."""
    padded = (message + b"\x80").ljust(56, b"\0") + (8 * (64 + len(message))).to_bytes(8, "big")
    return _words(padded.hex())


def _label_block(label: str, size: int) -> NDArray[np.uint32]:
    """The one block of HKDF-Expand-Label (RFC 8446, section 7.1) for ``size`` bytes, at most 32."""
    name = b"tls13 " + label.encode()
    return _second_block(size.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0\1")


_BLOCKS: Final = np.stack(
    [
        _label_block("client in", 32),
        *(
            _label_block(f"{label} {name}", size)
            for label in LABELS
            for name, size in (("key", 16), ("iv", 12), ("hp", 16))
        ),
    ]
)


@inlined
def _turn(value, bits):
    return (value >> np.uint32(bits)) | (value << np.uint32(32 - bits))


@subroutine
def _compress(words, constants, state):
    """SHA-256 (FIPS 180-4, section 6.2.2) of the block in ``words[:16]``, shape (64,); changes ``state``."""
    for step in range(16, 64):
        early, late = words[step - 15], words[step - 2]
        words[step] = np.uint32(
            words[step - 16]
            + (_turn(early, 7) ^ _turn(early, 18) ^ (early >> np.uint32(3)))
            + words[step - 7]
            + (_turn(late, 17) ^ _turn(late, 19) ^ (late >> np.uint32(10)))
        )
    a, b, c, d = state[0], state[1], state[2], state[3]
    e, f, g, h = state[4], state[5], state[6], state[7]
    for step in range(64):
        one = (
            h
            + (_turn(e, 6) ^ _turn(e, 11) ^ _turn(e, 25))
            + ((e & f) ^ (~e & g))
            + constants[step]
            + words[step]
        )
        two = (_turn(a, 2) ^ _turn(a, 13) ^ _turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))
        h, g, f, e = g, f, e, np.uint32(d + one)
        d, c, b, a = c, b, a, np.uint32(one + two)
    state[0] += a
    state[1] += b
    state[2] += c
    state[3] += d
    state[4] += e
    state[5] += f
    state[6] += g
    state[7] += h


@subroutine
def _begin_hmac(key, n_words, words, constants, first, inner, outer):
    """The states of HMAC's two hashes (RFC 2104) after the blocks of the key, of ``n_words`` words."""
    for index in range(8):
        inner[index] = outer[index] = first[index]
    for index in range(16):
        words[index] = 0x36363636 ^ (key[index] if index < n_words else np.uint32(0))
    _compress(words, constants, inner)
    for index in range(16):
        words[index] = 0x5C5C5C5C ^ (key[index] if index < n_words else np.uint32(0))
    _compress(words, constants, outer)


@subroutine
def _end_hmac(block, words, constants, inner, outer, state, out):
    """HMAC of a message of one padded block (``_second_block``) into ``out``, shape (8,)."""
    for index in range(16):
        words[index] = block[index]
    for index in range(8):
        state[index], out[index] = inner[index], outer[index]
    _compress(words, constants, state)
    for index in range(8):
        words[index], words[8 + index] = state[index], 0
    words[8], words[15] = 0x80000000, 8 * (64 + 32)
    _compress(words, constants, out)


@kernel
def write_keys(data, begin, end, salt, label, salts, blocks, constants, first, out):
    """Writes the client's Initial keys (RFC 9001, section 5.2) of n connections.

    Args:
        data: uint8; connection id i is ``data[begin[i] : end[i]]``, at most ``MAX_ID_BYTES`` bytes.
        begin: int64 (n,).
        end: int64 (n,).
        salt: rows of ``salts``, int64 (n,).
        label: number of the label in ``LABELS``, int64 (n,).
        salts: uint32 (k, 5).
        blocks: messages that HKDF expands, uint32 (7, 16).
        constants: of SHA-256, uint32 (64,).
        first: its first state, uint32 (8,).
        out: uint8 (n * KEY_BYTES,), out.
    """
    words = np.zeros(64, dtype=np.uint32)
    inner, outer = np.zeros(8, dtype=np.uint32), np.zeros(8, dtype=np.uint32)
    state, secret = np.zeros(8, dtype=np.uint32), np.zeros(8, dtype=np.uint32)
    id_block = np.zeros(16, dtype=np.uint32)
    padded = np.zeros(64, dtype=np.uint8)
    for index in range(len(begin)):
        size = end[index] - begin[index]
        for byte in range(64):
            padded[byte] = data[begin[index] + byte] if byte < size else 0
        padded[size] = 0x80
        padded[62] = (8 * (64 + size)) >> 8
        padded[63] = (8 * (64 + size)) & 255
        for word in range(16):
            id_block[word] = np.uint32(be32(padded, 4 * word))
        _begin_hmac(salts[salt[index]], 5, words, constants, first, inner, outer)
        _end_hmac(id_block, words, constants, inner, outer, state, secret)
        _begin_hmac(secret, 8, words, constants, first, inner, outer)
        _end_hmac(blocks[0], words, constants, inner, outer, state, secret)
        _begin_hmac(secret, 8, words, constants, first, inner, outer)
        at = index * KEY_BYTES
        for key in range(3):
            _end_hmac(
                blocks[1 + 3 * label[index] + key], words, constants, inner, outer, state, secret
            )
            for byte in range(12 if key == 1 else 16):
                out[at] = np.int64(secret[byte // 4]) >> (24 - 8 * (byte % 4)) & 255
                at += 1


@inlined
def _double(byte):
    """Twice a byte in AES's field (FIPS 197, section 4.2.1)."""
    return ((byte << 1) ^ (0x1B if byte & 0x80 else 0)) & 0xFF


@subroutine
def _expand_key(key, at, s_box, schedule):
    """AES-128's key schedule (FIPS 197, section 5.2) of ``key[at : at + 16]``, shape (176,)."""
    for byte in range(16):
        schedule[byte] = key[at + byte]
    constant = np.int64(1)
    for word in range(4, 44):
        place = 4 * word
        for byte in range(4):
            before = np.int64(schedule[place - 4 + byte])
            if word % 4 == 0:
                before = np.int64(s_box[schedule[place - 4 + (byte + 1) % 4]])
                if byte == 0:
                    before ^= constant
            schedule[place + byte] = schedule[place - 16 + byte] ^ before
        if word % 4 == 0:
            constant = _double(constant)


@subroutine
def _encrypt(schedule, s_box, block, room):
    """AES-128 (FIPS 197, section 5.1) of ``block``, shape (16,), in place."""
    for byte in range(16):
        block[byte] ^= schedule[byte]
    for turn in range(1, 11):
        for byte in range(16):  # SubBytes and ShiftRows
            room[byte] = s_box[block[(byte + 4 * (byte % 4)) % 16]]
        for column in range(0, 16, 4):
            one, two = np.int64(room[column]), np.int64(room[column + 1])
            three, four = np.int64(room[column + 2]), np.int64(room[column + 3])
            if turn < 10:  # MixColumns
                every = one ^ two ^ three ^ four
                first = one
                one ^= every ^ _double(one ^ two)
                two ^= every ^ _double(two ^ three)
                three ^= every ^ _double(three ^ four)
                four ^= every ^ _double(four ^ first)
            block[column] = one ^ schedule[16 * turn + column]
            block[column + 1] = two ^ schedule[16 * turn + column + 1]
            block[column + 2] = three ^ schedule[16 * turn + column + 2]
            block[column + 3] = four ^ schedule[16 * turn + column + 3]


@kernel
def write_headers(data, begin, number, end, keys, key, s_box, nonces, ends, headers):
    """Writes the headers of m packets without protection (RFC 9001, section 5.4), and their nonces.

    Args:
        data: uint8, the packets' bytes.
        begin: of each destination connection id in ``data``, int64 (m,).
        number: where each protected packet number begins, int64 (m,).
        end: of each packet, int64 (m,).
        keys: as ``write_keys`` gives them.
        key: number of each packet's keys, int64 (m,).
        s_box: of AES, uint8 (256,).
        nonces: uint8 (m * NONCE_BYTES,), out.
        ends: of each header in ``headers``, int64 (m,), out; it is empty where the packet is too short.
        headers: uint8, out; room for all bytes before packet numbers and 4 bytes each.
    """
    schedule = np.zeros(176, dtype=np.uint8)
    block, room = np.zeros(16, dtype=np.uint8), np.zeros(16, dtype=np.uint8)
    at = 0
    expanded = np.int64(-1)
    for index in range(len(begin)):
        place = number[index]
        if place + _SAMPLE_AT + _SAMPLE_BYTES <= end[index]:
            if key[index] != expanded:
                expanded = key[index]
                _expand_key(keys, expanded * KEY_BYTES + 28, s_box, schedule)
            for byte in range(_SAMPLE_BYTES):
                block[byte] = data[place + _SAMPLE_AT + byte]
            _encrypt(schedule, s_box, block, room)
            for byte in range(NONCE_BYTES):
                nonces[index * NONCE_BYTES + byte] = keys[expanded * KEY_BYTES + 16 + byte]
            start = at
            for byte in range(begin[index] - BEFORE_ID, place):
                headers[at] = data[byte]
                at += 1
            headers[start] ^= block[0] & 0x0F
            size = np.int64(headers[start] & 3) + 1
            last = (index + 1) * NONCE_BYTES - size
            for byte in range(size):
                headers[at] = data[place + byte] ^ block[1 + byte]
                nonces[last + byte] ^= headers[at]
                at += 1
        ends[index] = at


class Unprotected(NamedTuple):
    """Initial packets whose payload can be decrypted."""

    keys: list[bytes]
    """AES-128-GCM key of each connection, n."""
    nonces: list[bytes]
    """Of each packet, m."""
    headers: list[bytes]
    """Each packet's header with its packet number in the clear; empty where the packet is too short, m."""


class Connections(NamedTuple):
    """What the keys of n connections are derived from."""

    begin: NDArray[np.int64]
    """First byte of each id, shape (n,)."""
    end: NDArray[np.int64]
    """What follows its last byte, at most ``MAX_ID_BYTES`` bytes later."""
    salt: NDArray[np.int64]
    """Row of the salt in ``salts``."""
    label: NDArray[np.int64]
    """Number in ``LABELS``."""
    salts: NDArray[np.uint32]
    """Shape (k, 5)."""


def unprotect(
    data: NDArray[np.uint8],
    connections: Connections,
    key: NDArray[np.int64],
    begin: NDArray[np.int64],
    number: NDArray[np.int64],
    end: NDArray[np.int64],
) -> Unprotected:
    """Derives the keys of connections, and takes the protection from the headers of their packets.

    Args:
        data: bytes that the following point into.
        connections: whose keys to derive.
        key: the connection of each packet, shape (m,).
        begin: first byte of each packet's destination id, shape (m,).
        number: first byte of its packet number, shape (m,).
        end: its end, shape (m,).
    """
    n, m = len(connections.begin), len(key)
    keys: NDArray[Any] = np.empty(n * KEY_BYTES, dtype=np.uint8)
    write_keys(data, *connections, _BLOCKS, _ROUND_CONSTANTS, _FIRST_STATE, keys)
    nonces: NDArray[Any] = np.empty(m * NONCE_BYTES, dtype=np.uint8)
    ends = np.empty(m, dtype=np.int64)
    headers: NDArray[Any] = np.empty(int(np.sum(number - begin + BEFORE_ID + 4)), dtype=np.uint8)
    write_headers(data, begin, number, end, keys, key, _S_BOX, nonces, ends, headers)
    secret, nonce, header = keys.tobytes(), nonces.tobytes(), headers.tobytes()
    cuts = [0, *ends.tolist()]
    return Unprotected(
        [secret[at : at + 16] for at in range(0, n * KEY_BYTES, KEY_BYTES)],
        [nonce[at : at + NONCE_BYTES] for at in range(0, m * NONCE_BYTES, NONCE_BYTES)],
        [header[start:stop] for start, stop in pairwise(cuts)],
    )
