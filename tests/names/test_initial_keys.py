"""Initial keys and header protection: the RFCs' examples, and a library's results for random connections."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from apptell.names.initial_keys import (
    BEFORE_ID,
    MAX_ID_BYTES,
    Connections,
    Unprotected,
    unprotect,
)
from tests.names.hellos import sized

ID = bytes.fromhex("8394c8f03e515708")
SALTS = (
    bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
    bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
)
"""Of version 1 (RFC 9001, section 5.2) and of version 2 (RFC 9369, section 3.3.1)."""


def expand(secret: bytes, label: str, size: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446, section 7.1, for one block."""
    info = size.to_bytes(2, "big") + sized(b"tls13 " + label.encode(), 1) + b"\0\1"
    return hmac.digest(secret, info, hashlib.sha256)[:size]


def derived(connection: bytes, version: int) -> list[bytes]:
    """AEAD key, IV and header protection key by the library's HMAC."""
    secret = expand(hmac.digest(SALTS[version - 1], connection, hashlib.sha256), "client in", 32)
    label = "quic" if version == 1 else "quicv2"
    return [
        expand(secret, f"{label} {name}", size)
        for name, size in (("key", 16), ("iv", 12), ("hp", 16))
    ]


def unprotected(packets: list[tuple[bytes, bytes, bytes, int]]) -> Unprotected:
    """Of packets: what precedes the packet number, what follows it, the id of the keys, the version."""
    begin, number, end, data = [], [], [], b""
    for header, rest, *_ in packets:
        begin.append(len(data) + BEFORE_ID)
        number.append(len(data) + len(header))
        data += header + rest
        end.append(len(data))
    ids = []
    for *_, connection, _version in packets:
        ids.append((len(data), len(data) + len(connection)))
        data += connection
    label = np.array([version - 1 for *_, version in packets], dtype=np.int64)
    return unprotect(
        np.frombuffer(data, dtype=np.uint8),
        Connections(
            np.array([first for first, _ in ids]),
            np.array([last for _, last in ids]),
            label,
            label,
            np.array([np.frombuffer(salt, dtype=">u4") for salt in SALTS], dtype=np.uint32),
        ),
        np.arange(len(packets)),
        np.array(begin),
        np.array(number),
        np.array(end),
    )


@pytest.mark.parametrize(
    ("version", "plain", "protected", "sample", "key", "iv"),
    [
        (  # RFC 9001, A.1 and A.2
            1,
            "c300000001088394c8f03e5157080000449e00000002",
            "c000000001088394c8f03e5157080000449e7b9aec34",
            "d1b1c98dd7689fb8ec11d242b123dc9b",
            "1f369613dd76d5467730efcbe3b1a22d",
            "fa044b2f42a3fd3b46fb255c",
        ),
        (  # RFC 9369, A.1 and A.2
            2,
            "d36b3343cf088394c8f03e5157080000449e00000002",
            "d76b3343cf088394c8f03e5157080000449ea0c95e82",
            "ffe67b6abcdb4298b485dd04de806071",
            "8b1a0bc121284290a29e0971b5cd045d",
            "91f73e2351d8fa91660e909f",
        ),
    ],
)
def test_the_rfcs_examples(version, plain, protected, sample, key, iv):
    packet = bytes.fromhex(protected)
    found = unprotected([(packet[:-4], packet[-4:] + bytes.fromhex(sample), ID, version)])
    nonce = int(iv, 16) ^ 2
    assert found.keys == [bytes.fromhex(key)]
    assert found.headers == [bytes.fromhex(plain)]
    assert found.nonces == [nonce.to_bytes(12, "big")]


HEADERS = st.tuples(
    st.binary(min_size=BEFORE_ID, max_size=60),
    st.binary(min_size=20, max_size=40),
    st.binary(max_size=MAX_ID_BYTES),
    st.sampled_from([1, 2]),
)


@given(st.lists(HEADERS, min_size=1, max_size=6))
def test_random_packets_are_as_the_library_has_them(packets):
    found = unprotected(packets)
    for index, (header, rest, connection, version) in enumerate(packets):
        key, iv, mask_key = derived(connection, version)
        mask = Cipher(algorithms.AES(mask_key), modes.ECB()).encryptor().update(rest[4:20])
        flags = header[0] ^ (mask[0] & 0x0F)
        size = (flags & 3) + 1
        number = bytes(a ^ b for a, b in zip(rest[:size], mask[1:], strict=False))
        assert found.keys[index] == key
        assert found.headers[index] == bytes([flags]) + header[1:] + number
        nonce = int.from_bytes(iv, "big") ^ int.from_bytes(number, "big")
        assert found.nonces[index] == nonce.to_bytes(12, "big")


def test_a_packet_without_a_whole_sample_has_no_header():
    header = bytes.fromhex("c000000001088394c8f03e5157080000449e")
    found = unprotected([(header, bytes(19), ID, 1), (header, bytes(20), ID, 1)])
    assert found.headers[0] == b""
    assert found.headers[1].startswith(header[1:], 1)
