"""What ClientHello messages say, beside a plain reader written from the RFCs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.names.hello import read_hellos
from apptell.names.tls import Messages
from tests.names.hellos import alpn, hello, read_plainly, server_name, versions

HELLO = hello([server_name(b"chat.example.org"), alpn(b"h2", b"http/1.1"), versions(0x0304)])
BIG = hello([(51, bytes(1700)), server_name(b"pq.example.org"), alpn(b"h2")])


def parse(*messages):
    start = np.zeros(len(messages) + 1, dtype=np.int64)
    np.cumsum([len(message) for message in messages], out=start[1:])
    data = np.frombuffer(b"".join(messages), dtype=np.uint8)
    hellos = read_hellos({"t": Messages(np.arange(len(messages)), start, data)})
    return list(zip(hellos.server_name.to_pylist(), hellos.alpn.to_pylist(), strict=True))


def test_odd_bytes_are_escaped_and_empty_names_are_null():
    assert parse(hello([server_name(b"a\xffb\x00.org")])) == [(r"a\xffb\x00.org", None)]
    assert parse(hello([server_name("pay\u200bpal.example".encode())])) == [
        (r"pay\u200bpal.example", None)
    ]
    assert parse(hello([alpn(b"h2,x", b"a b")])) == [(None, r"h2\x2cx,a\x20b")]
    assert parse(hello([server_name(b"")])) == [(None, None)]
    assert parse(hello([(0, b"")])) == [(None, None)]
    assert parse(hello([alpn(b"\x0a\x0a", b"h2")])) == [(None, "h2")]
    assert parse(hello(None)) == [(None, None)]


def test_only_host_names_count():
    assert parse(hello([(0, b"\0\6\1\0\3abc")])) == [(None, None)]


def test_neighbours_do_not_mix():
    messages = [HELLO, hello(None), HELLO[:60], BIG]
    assert parse(*messages) == [read_plainly(message) for message in messages]


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from([HELLO, BIG]).flatmap(
            lambda base: st.tuples(
                st.just(base),
                st.lists(st.tuples(st.integers(0, 260), st.integers(0, 255)), max_size=6),
                st.integers(4, len(base)),
            )
        ),
        min_size=1,
        max_size=4,
    )
)
def test_spoiled_hellos_are_read_as_the_plain_reader_reads_them(cases):
    messages = []
    for base, changes, size in cases:
        message = bytearray(base)
        for place, value in changes:
            message[place % len(message)] = value
        messages.append(bytes(message[:size]))
    assert parse(*messages) == [read_plainly(message) for message in messages]
