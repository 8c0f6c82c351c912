"""ClientHello messages from segments, and what they say."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.names.hello import read_hellos
from apptell.names.tls import find_hellos
from tests.names.hellos import alpn, flows, hello, records, server_name, versions

HELLO = hello([server_name(b"chat.example.org"), alpn(b"h2", b"http/1.1"), versions(0x0304)])
BIG = hello([(51, bytes(1700)), server_name(b"pq.example.org"), alpn(b"h2")])


def found(*conversation, lengths=None, offsets=None):
    segments = flows(
        [list(conversation)], lengths=lengths, offsets=None if offsets is None else [offsets]
    ).segments()
    messages = find_hellos(segments, np.ones(1, dtype=bool))
    hellos = read_hellos({"t": messages})
    return list(zip(hellos.server_name.to_pylist(), hellos.alpn.to_pylist(), strict=True))


def test_a_hello_in_one_segment_is_read():
    assert found((True, records(HELLO))) == [("chat.example.org", "h2,http/1.1")]


def test_a_flow_without_hello_gives_none():
    assert found((True, b"GET / HTTP/1.1\r\n\r\n"), (False, b"HTTP/1.1 200 OK\r\n\r\n")) == []
    assert found() == []


@pytest.mark.parametrize("cut", [1, 3, 5, 6, 9, 11, 100, 1400])
def test_a_hello_over_two_segments_with_the_servers_between_is_joined(cut):
    data = records(BIG)
    got = found((True, data[:cut]), (False, b"\x15\3\1\0\2\1\0"), (True, data[cut:]))
    assert got == [("pq.example.org", "h2")]


def test_a_hello_over_many_records_and_segments_is_joined():
    data = records(HELLO, size=37)
    parts = [(True, data[at : at + 50]) for at in range(0, len(data), 50)]
    assert found(*parts) == [("chat.example.org", "h2,http/1.1")]


def test_a_hello_after_starttls_is_found():
    got = found(
        (False, b"220 mail.example.org ESMTP\r\n"),
        (True, b"EHLO me\r\n"),
        (False, b"250 STARTTLS\r\n"),
        (True, b"STARTTLS\r\n"),
        (False, b"220 go on\r\n"),
        (True, records(HELLO)),
    )
    assert got == [("chat.example.org", "h2,http/1.1")]


def test_a_hello_behind_a_proxy_prefix_is_found():
    text = b"PROXY TCP4 10.0.0.1 10.0.0.2 5000 443\r\n"
    binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)
    for prefix in (text, binary):
        assert found((True, prefix + records(HELLO))) == [("chat.example.org", "h2,http/1.1")]


def test_a_hello_behind_another_record_is_found():
    change = b"\x14\3\3\0\1\1"
    assert found((True, change + records(HELLO))) == [("chat.example.org", "h2,http/1.1")]


def test_a_hello_from_the_side_called_server_is_found():
    assert found((False, records(HELLO))) == [("chat.example.org", "h2,http/1.1")]


def test_the_clients_hello_goes_before_the_servers():
    other = records(hello([server_name(b"other.example.org")]))
    assert found((False, other), (True, records(HELLO)))[0][0] == "chat.example.org"


def test_a_hello_sent_again_while_it_goes_on_is_passed_over():
    data = records(BIG)
    got = found((True, data[:1400]), (True, data[:1400]), (True, data[1400:]), offsets=[0, 0, 1400])
    assert got == [("pq.example.org", "h2")]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 50])
@pytest.mark.parametrize("cut", [1, 7, 40, 9999])
def test_a_hello_whose_first_record_is_tiny_is_read(size, cut):
    data = records(HELLO[:size]) + records(HELLO[size:])
    parts = [(True, data[at : at + cut]) for at in range(0, len(data), cut)]
    assert found(*parts) == [("chat.example.org", "h2,http/1.1")]


def test_a_hello_in_records_of_one_byte_and_segments_of_one_byte_is_read():
    data = records(HELLO, size=1)
    assert found(*[(True, data[at : at + 1]) for at in range(len(data))]) == [
        ("chat.example.org", "h2,http/1.1")
    ]


def test_segments_of_a_hello_are_joined_in_the_order_of_their_places():
    data = records(BIG)
    got = found((True, data[1400:]), (False, b"x"), (True, data[:1400]), offsets=[0, 0, -1400])
    assert got == [("pq.example.org", "h2")]


def test_the_halves_of_two_names_are_never_joined():
    """The second half comes first and reads like a hello of its own when the order is lost."""
    data = records(hello([server_name(b"good.example" + b"x" * 1400 + b"bank.example")]))
    first, second = data[:700], data[700:]
    assert found((True, second), (True, first), offsets=[700, 0]) == found((True, data))
    assert found((True, first), (True, b"." * 50), offsets=[0, 900]) == [(None, None)]


@pytest.mark.parametrize("other", [b"paypal.org", b"bank00.org"])
def test_a_name_of_which_two_versions_were_sent_is_not_given(other):
    data = records(hello([alpn(b"h2"), server_name(b"chat12.org"), (51, bytes(300))]))
    at = data.index(b"chat12.org")
    spoiled = data[:at] + other + data[at + 10 :]
    for first, second in ((data, spoiled), (spoiled, data)):
        assert found((True, first), (True, second), offsets=[0, 0]) == [(None, "h2")]
        assert found((True, first[: at + 3]), (True, second[at - 5 :]), offsets=[0, at - 5]) == [
            (None, "h2")
        ]


def test_a_hello_inside_the_gap_of_another_is_not_taken_for_it():
    inner = records(hello([server_name(b"bank.example")]))
    outer = records(hello([(21, bytes(600) + inner + bytes(900)), server_name(b"evil.example")]))
    at = outer.index(inner)
    whole = [(True, outer[:40]), (True, outer[40:at]), (True, outer[at:])]
    assert found(*whole) == [("evil.example", None)]
    assert found(whole[0], whole[2], offsets=[0, at]) == []


@settings(max_examples=150)
@given(st.data())
def test_any_cut_order_and_repetition_gives_the_same_hello(data):
    stream = records(data.draw(st.sampled_from([HELLO, BIG])), data.draw(st.integers(1, 600)))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=9)))
    spans = list(zip([0, *cuts], [*cuts, len(stream)], strict=True))
    for begin, end in data.draw(st.lists(st.sampled_from(spans), max_size=4)):
        spans.append((max(begin - 3, 0), min(end + 7, len(stream))))
    spans = data.draw(st.permutations(spans))
    got = found(
        *[(True, stream[begin:end]) for begin, end in spans],
        offsets=[begin - spans[0][0] for begin, _ in spans],
    )
    assert got == found((True, stream))
    assert got[0][0] is not None


def test_a_cut_segment_gives_what_is_whole():
    message = hello([server_name(b"kept.example.org"), (21, bytes(1600)), alpn(b"h2")])
    data = records(message)
    got = found((True, data[:1500]), (True, b"later"), lengths={(0, 0): len(data)})
    assert got == [("kept.example.org", None)]
    assert found((True, records(BIG)[:1500]), lengths={(0, 0): 2000}) == [(None, None)]


def test_a_cut_name_is_not_reported():
    data = records(HELLO)
    end = data.index(b"chat.example.org") + 10
    assert found((True, data[:end]), lengths={(0, 0): len(data)}) == [(None, None)]


def test_an_sslv2_hello_and_a_server_hello_give_none():
    assert found((True, b"\x80\x2e\1\3\1\0\x15\0\0\0\x10" + bytes(40))) == []
    assert found((False, b"\x16\3\3\0\x30\2\0\0\x2c\3\3" + bytes(60))) == []


def test_flows_that_are_not_wanted_are_passed_over():
    batch = flows([[(True, records(HELLO))]] * 3).segments()
    messages = find_hellos(batch, np.array([True, False, True]))
    assert messages.rows.tolist() == [0, 2]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=80)), max_size=12))
def test_random_segments_never_raise(segments):
    marked = [(side, b"\x16\3\1" + data) for side, data in segments]
    found(*segments)
    found(*marked)


BOUNDS = """
import numpy as np
from apptell.names.dns import read_messages
from apptell.names.flow_names import add_names
from tests.names import dns_twin as dns
from tests.names.hellos import *
from tests.names.test_dtls import record
from tests.names.test_quic import SHORT, crypto, initial
random = np.random.default_rng(1)
base = hello([server_name(b"chat.example.org"), alpn(b"h2"), algorithms(0x403), versions(0x304)])
seeds = [record(0, 60) + record(60, 999), initial(crypto(0, SHORT)),
         records(base), records(base, 60), b"GET / HTTP/1.1\\r\\nHost: a.org\\r\\n\\r\\n",
         b"PROXY TCP4 1 2 3 4\\r\\n" + records(base),
         b"\\r\\n\\r\\n\\0\\r\\nQUIT\\n\\x21\\x11\\0\\x0c" + bytes(30)]
for protocol in (6, 17):
    conversations, offsets = [], []
    for _ in range(800):
        data = bytearray(seeds[random.integers(len(seeds))])
        for _ in range(random.integers(0, 8)):
            data[random.integers(len(data))] = random.integers(256)
        data = bytes(data[: random.integers(1, len(data) + 1)])
        cut = int(random.integers(0, len(data)))
        conversations.append([(True, data[:cut]), (bool(random.integers(2)), data[cut:])])
        offsets.append([0, int(random.integers(-99, 99)) if random.integers(2) else cut])
    add_names(flows(conversations, protocol, offsets=offsets))
alias = dns.record(5, b"\\1b\\xc0\\x0c")
hints = dns.record(65, b"\\0\\1\\0\\0\\4\\0\\4" + bytes(4))
for _ in range(800):
    data = bytearray(dns.response(b"a.org", alias, dns.record(1, bytes(4), b"\\1b\\xc0\\x0c"), hints))
    for _ in range(random.integers(0, 8)):
        data[random.integers(len(data))] = random.integers(256)
    end = int(random.integers(1, len(data) + 1))
    read_messages(np.zeros(1, np.int64), np.array([end]), np.frombuffer(data[:end], np.uint8),
                  np.ones((1, 3), np.uint64), np.zeros(1, np.int64))
print("done")
"""


@pytest.mark.slow
def test_no_kernel_reads_out_of_bounds(bounds_checked):
    done = subprocess.run(
        [sys.executable, "-c", BOUNDS],
        env=bounds_checked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
