"""QUIC Initial packets: keys of the RFCs' appendices, packets sealed here, names out."""

from __future__ import annotations

import hmac

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.names.hello import read_hellos
from apptell.names.quic import SALTS, find_initials, initials, read_streams
from tests.names.hellos import alpn, flows, hello, server_name, sized

ID = bytes.fromhex("8394c8f03e515708")
HELLO = hello([server_name(b"quic.example.org"), alpn(b"h3"), (51, bytes(1900))])
SHORT = hello([server_name(b"quic.example.org"), alpn(b"h3")])


def expand(secret: bytes, label: str, size: int) -> bytes:
    info = size.to_bytes(2, "big") + sized(b"tls13 " + label.encode(), 1) + b"\0"
    return HKDFExpand(SHA256(), size, info).derive(secret)


def keys(version: int, connection: bytes) -> list[bytes]:
    extracted = hmac.digest(SALTS[version], connection, "sha256")  # HKDF-Extract of RFC 5869
    secret = expand(extracted, "client in", 32)
    prefix = "quicv2" if version in (0x6B3343CF, 0x709A50C4) else "quic"
    return [
        expand(secret, f"{prefix} {name}", size)
        for name, size in (("key", 16), ("iv", 12), ("hp", 16))
    ]


def varint(value: int) -> bytes:
    return (value | 0x4000).to_bytes(2, "big") if value > 63 else bytes([value])


def crypto(offset: int, data: bytes) -> bytes:
    return b"\6" + varint(offset) + varint(len(data)) + data


def initial(
    frames: bytes,
    version: int = 1,
    connection: bytes = ID,
    number: int = 2,
    key_id: bytes | None = None,
) -> bytes:
    """A client Initial packet (RFC 9001, section 5): sealed, then its header protected."""
    frames = frames.ljust(64, b"\0")
    key, nonce, mask_key = keys(version, key_id or connection)
    first = 0xD3 if version in (0x6B3343CF, 0x709A50C4) else 0xC3
    header = bytes([first]) + version.to_bytes(4, "big") + sized(connection, 1) + b"\0\0"
    header += varint(len(frames) + 20) + number.to_bytes(4, "big")
    count = (int.from_bytes(nonce, "big") ^ number).to_bytes(12, "big")
    sealed = AESGCM(key).encrypt(count, frames, header)
    mask = Cipher(algorithms.AES(mask_key), modes.ECB()).encryptor().update(sealed[:16])
    hidden = bytes(a ^ b for a, b in zip(header[-4:], mask[1:5], strict=True))
    return bytes([header[0] ^ mask[0] & 15]) + header[1:-4] + hidden + sealed


def read_flow(datagrams: list[bytes]) -> bytes:
    """The crypto stream of a flow whose client sent these."""
    segments = flows([[(True, data) for data in datagrams]], 17).segments()
    listed = initials(segments, np.ones(1, dtype=bool))
    streams = dict(read_streams(segments.data, listed, np.arange(listed.shape[1])))
    return streams.get(0, b"")


def names(*datagrams: bytes, to_server: bool = True):
    segments = flows([[(to_server, data) for data in datagrams]], 17).segments()
    messages, google = find_initials(segments, np.ones(1, dtype=bool))
    return read_hellos({"q": messages}).server_name.to_pylist(), google


def test_the_sealing_here_has_the_keys_of_the_rfcs():
    assert [key.hex() for key in keys(1, ID)] == [  # RFC 9001, A.1
        "1f369613dd76d5467730efcbe3b1a22d",
        "fa044b2f42a3fd3b46fb255c",
        "9f50449e04a0e810283a1e9933adedd2",
    ]
    assert [key.hex() for key in keys(0x6B3343CF, ID)] == [  # RFC 9369, A.1
        "8b1a0bc121284290a29e0971b5cd045d",
        "91f73e2351d8fa91660e909f",
        "45b95e15235d6f45a6b19cbcb0294ba9",
    ]


@pytest.mark.parametrize(
    "version", [1, 0x6B3343CF, 0x709A50C4, 0xFF00001D, 0xFF00001B, 0xFF000016, 0xFACEB002]
)
def test_an_initial_packet_of_each_version_is_opened(version):
    assert names(initial(crypto(0, SHORT), version)) == (["quic.example.org"], {})


def test_a_client_told_wrongly_is_found():
    assert names(initial(crypto(0, SHORT)), to_server=False) == (["quic.example.org"], {})


def test_frames_in_any_order_over_several_datagrams_are_joined():
    a, b, c = HELLO[:700], HELLO[700:1500], HELLO[1500:]
    acknowledged = b"\2\1\0\1\0\0\0" + b"\3\1\0\0\0\1\2\3" + b"\1"
    first = initial(crypto(700, b) + b"\0\0" + acknowledged[7:] + crypto(0, a))
    second = initial(acknowledged + crypto(1500, c), number=3)
    assert names(first, second) == (["quic.example.org"], {})
    assert names(second, first) == (["quic.example.org"], {})


def test_overlapping_frames_are_joined_and_a_gap_ends_the_stream():
    packet = initial(crypto(0, SHORT[:90]) + crypto(50, SHORT[50:]))
    assert read_flow([packet]) == SHORT
    assert read_flow([initial(crypto(0, SHORT[:60]) + crypto(70, SHORT[70:]))]) == SHORT[:60]


def test_a_stream_ends_before_a_byte_of_which_two_versions_were_sent():
    other = SHORT.replace(b"quic.", b"bank.")
    at = SHORT.index(b"quic.")
    halves = crypto(0, SHORT[: at + 2]) + crypto(at - 3, other[at - 3 :])
    assert read_flow([initial(halves)]) == SHORT[:at]
    assert names(initial(halves)) == ([None], {})


def test_packets_of_two_versions_are_not_mixed():
    other = SHORT.replace(b"quic.", b"bank.")
    first = initial(crypto(0, SHORT[:99]))
    assert read_flow([first, initial(crypto(99, other[99:]), 0x6B3343CF)]) == SHORT[:99]
    assert read_flow([first, initial(crypto(0, other), 0x6B3343CF)]) == other


def test_packets_of_two_connections_are_not_mixed():
    """A connection may follow another one on the same ports; its packets have other keys."""
    other = SHORT.replace(b"quic.", b"bank.")
    second = initial(crypto(99, other[99:]), connection=b"another1")
    for packets in (
        [initial(crypto(0, SHORT[:99])), second],
        [second, initial(crypto(0, SHORT[:99]))],
    ):
        assert read_flow(packets) == SHORT[:99]
    assert read_flow([second, initial(crypto(0, SHORT))]) == SHORT


def test_of_two_whole_hellos_with_the_same_keys_neither_is_given():
    other = SHORT.replace(b"quic.", b"bank.")
    for one, two in ((SHORT, other), (other, SHORT)):
        assert names(initial(crypto(0, one)), initial(crypto(0, two), number=3)) == ([None], {})
    assert names(initial(crypto(0, SHORT)), initial(crypto(0, SHORT), number=3))[0] == [
        "quic.example.org"
    ]


def test_coalesced_packets_are_opened():
    both = initial(crypto(0, SHORT[:50])) + initial(crypto(50, SHORT[50:]), number=3)
    assert read_flow([both]) == SHORT


def test_later_packets_to_the_servers_id_keep_the_first_keys():
    second = initial(crypto(900, HELLO[900:]), connection=b"server-id", number=3, key_id=ID)
    assert read_flow([initial(crypto(0, HELLO[:900])), second]) == HELLO


def test_after_a_retry_the_keys_are_of_the_new_id():
    broken = initial(crypto(0, SHORT[:40]))
    again = initial(crypto(0, SHORT), connection=b"retry-id")
    assert read_flow([broken, again]) == SHORT


def test_a_packet_spoiled_or_cut_gives_nothing():
    packet = initial(crypto(0, SHORT))
    spoiled = packet[:-1] + bytes([packet[-1] ^ 1])
    assert read_flow([spoiled]) == b""
    assert all(read_flow([packet[:size]]) == b"" for size in range(0, len(packet), 7))
    assert names(spoiled) == ([], {})


def test_googles_chlo_gives_its_name():
    tags = [(b"PAD\0", bytes(40)), (b"SNI\0", b"www.example.org"), (b"VER\0", b"Q043")]
    table, values = b"", b""
    for tag, value in tags:
        values += value
        table += tag + len(values).to_bytes(4, "little")
    message = b"CHLO" + len(tags).to_bytes(2, "little") + b"\0\0" + table + values
    packet = b"\x09" + ID + b"Q043" + b"\1" + bytes(12) + b"\xa0\1\0\4" + message
    assert names(packet) == ([], {0: "www.example.org"})
    assert names(packet[: packet.index(b"www") + 5]) == ([], {})


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=200), max_size=4), st.binary(max_size=120))
def test_random_datagrams_and_frames_never_raise(datagrams, frames):
    long = [b"\xc3\0\0\0\1" + data for data in datagrams]
    names(*datagrams)
    names(*long)
    names(initial(frames))
    names(b"CHLO" + frames.ljust(70, b"S"))
