"""DTLS ClientHello messages from hand-made datagrams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.names.dtls import find_dtls_hellos
from apptell.names.flow_names import add_names
from tests.names.hellos import alpn, flows, hello, server_name

HELLO = hello(
    [server_name(b"call.example.org"), alpn(b"webrtc")], version=0xFEFD, cookie=b"biscuit"
)
BODY = HELLO[4:]


def record(
    offset: int, size: int, *, body: bytes = BODY, kind: int = 1, sequence: int = 0
) -> bytes:
    """One DTLS record with body[offset : offset + size] of a handshake message."""
    part = body[offset : offset + size]
    head = bytes([kind]) + len(body).to_bytes(3, "big") + sequence.to_bytes(2, "big")
    head += offset.to_bytes(3, "big") + len(part).to_bytes(3, "big")
    return b"\x16\xfe\xff" + bytes(8) + (12 + len(part)).to_bytes(2, "big") + head + part


def message(*datagrams: bytes, to_server: bool = True) -> bytes:
    segments = flows([[(to_server, data) for data in datagrams]], 17).segments()
    return find_dtls_hellos(segments, np.ones(1, dtype=bool)).data.tobytes()


def test_a_hello_in_one_datagram_is_taken_from_either_side():
    assert message(record(0, 999)) == HELLO
    assert message(record(0, 999), to_server=False) == HELLO


@pytest.mark.parametrize("size", [41, 60, 100])
def test_fragments_over_records_and_datagrams_are_joined(size):
    parts = [record(at, size) for at in range(0, len(BODY), size)]
    assert message(*parts) == HELLO
    assert message(b"".join(parts)) == HELLO
    assert message(parts[0], *parts) == HELLO  # the first sent again


@pytest.mark.parametrize("size", [41, 60, 100])
def test_fragments_that_overlap_or_are_reordered_are_joined(size):
    parts = [record(max(at - 20, 0), size + 20) for at in range(0, len(BODY), size)]
    assert message(*parts) == HELLO
    assert message(*reversed(parts)) == HELLO
    assert message(b"".join(reversed(parts))) == HELLO


def test_a_hello_ends_before_a_byte_of_which_two_versions_were_sent():
    other = BODY.replace(b"call", b"bank")
    at = BODY.index(b"call")
    assert message(record(0, 999), record(0, 999, body=other)) == HELLO[: 4 + at]
    (flow,) = add_names(flows([[(True, record(0, 999) + record(0, 999, body=other))]], 17))
    assert flow.server_name is None


def test_fragments_of_two_hellos_are_not_mixed():
    other = BODY.replace(b"call", b"bank")
    first, second = (
        record(0, at := BODY.index(b"call") + 2),
        record(at, 999, body=other, sequence=1),
    )
    assert message(first, second) == HELLO[: 4 + at]
    again = record(0, 999, body=other, sequence=1)
    assert message(first, again) == HELLO[:4] + other


def test_a_missing_fragment_leaves_what_precedes_it():
    assert message(record(0, 60), record(80, 99)) == HELLO[:64]


def test_other_messages_and_first_bytes_alone_give_nothing():
    assert message(record(0, 999, kind=2)) == b""
    assert all(message(record(0, 999)[:size]) == b"" for size in range(64))


def test_flows_get_names_and_a_fingerprint_with_d():
    (flow,) = add_names(flows([[(True, record(0, 999))]], 17))
    assert (flow.server_name, flow.alpn) == ("call.example.org", "webrtc")
    assert flow.ja4.startswith("dd2d1502wc_8daaf6152771_")


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=8), st.integers(0, 260)
)
def test_spoiled_datagrams_never_raise(changes, size):
    data = bytearray(record(0, 90) + record(90, 999))
    for place, value in changes:
        data[place % len(data)] = value
    message(bytes(data[:size]), bytes(data))
