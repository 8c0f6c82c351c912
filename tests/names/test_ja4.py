"""JA4 against the examples of its published description."""

from __future__ import annotations

import numpy as np
import pytest

from apptell.flows.plain_columns import Text
from apptell.names.hello import read_hellos
from apptell.names.ja4 import fingerprint, fingerprints
from apptell.names.tls import Messages
from tests.names.hellos import (
    CHROME_ALGORITHMS,
    CHROME_CIPHERS,
    algorithms,
    alpn,
    hello,
    server_name,
    versions,
)

OTHERS = [0x0005, 0x000A, 0x000B, 0x0012, 0x0015, 0x0017, 0x001B, 0x0023, 0x002D, 0x0033, 0x4469]
CHROME = [
    (0x1A1A, b""),
    server_name(b"example.org"),
    *((kind, b"") for kind in reversed(OTHERS)),
    (0xFF01, b"\0"),
    alpn(b"h2", b"http/1.1"),
    algorithms(*CHROME_ALGORITHMS),
    versions(0x2A2A, 0x0304, 0x0303),
    (0xDADA, b"\0"),
]


def ja4(message: bytes, kind: str = "t") -> str | None:
    start = np.array([0, len(message)], dtype=np.int64)
    data = np.frombuffer(message, dtype=np.uint8)
    return fingerprints(read_hellos({kind: Messages(np.zeros(1, np.int64), start, data)}).parts)[0]


def test_the_published_example_is_met_whatever_the_order():
    want = "t13d1516h2_8daaf6152771_e5627efa2ab1"
    assert ja4(hello(CHROME, [0x0A0A, *CHROME_CIPHERS])) == want
    assert ja4(hello(CHROME[::-1], [*CHROME_CIPHERS[::-1], 0xFAFA])) == want


def test_quic_is_told_by_its_letter():
    assert ja4(hello(CHROME), "q") == "q13d1516h2_8daaf6152771_e5627efa2ab1"


@pytest.mark.parametrize(
    ("protocol", "pair"),
    [
        (b"h2", "h2"),
        (b"http/1.1", "h1"),
        (b"x", "xx"),
        (b"\xab", "ab"),
        (b"\xab\xcd", "ad"),
        (b"\x30\xab", "3b"),
        (b"\x30\x31\xab\xcd", "3d"),
        (b"\x30\xab\xcd\x31", "01"),
        (b"", "00"),
    ],
)
def test_the_first_protocol_gives_two_characters(protocol, pair):
    assert ja4(hello([alpn(protocol, b"zz")]))[8:10] == pair


def test_no_alpn_no_name_no_extensions_and_no_ciphers_have_their_signs():
    assert ja4(hello(None)) == "t12i150000_8daaf6152771_000000000000"
    assert ja4(hello([], ciphers=[])) == "t12i000000_000000000000_000000000000"
    # server_name and ALPN are counted but not hashed
    assert ja4(hello([server_name(b"a.org"), alpn(b"h2")]))[4:].endswith(
        "02h2_8daaf6152771_" + "0" * 12
    )


@pytest.mark.parametrize(
    ("version", "sign"),
    [(0x0301, "10"), (0x0302, "11"), (0x0303, "12"), (0x0300, "s3"), (0x0399, "00")],
)
def test_without_supported_versions_the_hellos_own_counts(version, sign):
    assert ja4(hello([], version=version))[1:3] == sign


def test_counts_stop_at_99():
    assert ja4(hello([(900 + i, b"") for i in range(120)], list(range(1, 150))))[4:8] == "9999"


def test_without_algorithms_there_is_no_underscore():
    # sha256("000a,0017") cut to twelve characters
    import hashlib

    want = hashlib.sha256(b"000a,0017").hexdigest()[:12]
    assert ja4(hello([(0x17, b""), (0x0A, b"")])).endswith(want)


def test_a_cut_hello_has_none():
    message = hello(CHROME)
    assert all(ja4(message[:size]) is None for size in range(44, len(message)))


def test_dtls_counts_versions_downwards_and_skips_the_cookie():
    message = hello([versions(0xFEFD, 0xFEFC)], version=0xFEFD, cookie=b"biscuit")
    assert ja4(message, "d")[:8] == "dd3i1501"
    assert ja4(hello([], version=0xFEFF, cookie=b""), "d")[:3] == "dd1"


def test_equal_parts_are_hashed_once():
    fingerprint.cache_clear()
    part = b"t12i000000" + bytes(4)
    ends = np.array([0, 14, 14, 28], dtype=np.int32)
    got = fingerprints(Text(ends, np.frombuffer(2 * part, dtype=np.uint8)))
    want = "t12i000000_000000000000_000000000000"
    assert got == [want, None, want]
    assert fingerprint.cache_info().misses == 1
