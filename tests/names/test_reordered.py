"""Names of flows whose packets were cut, reordered, lost and sent again, from packets to columns."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.flows import FlowOptions
from apptell.names import read_flows
from apptell.testing import START_NS, pcap_bytes, tcp_frame, udp_frame
from tests.names.hellos import alpn, hello, records, server_name
from tests.names.test_dtls import record

CLIENT, SERVER = ("10.0.0.2", 40000), ("192.0.2.7", 443)
SYN, ACK = 2, 16
HELLO = records(hello([server_name(b"chat.example.org"), alpn(b"h2")]))
LARGE = records(hello([(51, bytes(1700)), server_name(b"chat.example.org"), alpn(b"h2")]), 300)
REQUEST = b"GET / HTTP/1.1\r\nAccept: */*\r\nHost: chat.example.org\r\n\r\n"
ANSWER = b"\x15\3\3\0\2\2\x28"


def flow_of(parts, *, first=1000, syn=True, answers=20, **options):
    """The flow of a client's (offset, bytes) segments, then of some answers and requests."""
    frames = [tcp_frame(CLIENT, SERVER, b"", sequence=first - 1, flags=SYN)] if syn else []
    frames += [tcp_frame(CLIENT, SERVER, data, sequence=first + at) for at, data in parts]
    end = first + max(at + len(data) for at, data in parts)
    for n in range(answers):
        frames.append(tcp_frame(SERVER, CLIENT, ANSWER, sequence=5000 + n * len(ANSWER)))
        frames.append(tcp_frame(CLIENT, SERVER, b"\x17\3\3\0\1x", sequence=end + 6 * n))
    packets = [(START_NS + 1000 * n, frame) for n, frame in enumerate(frames)]
    (flow,) = read_flows(io.BytesIO(pcap_bytes(packets)), FlowOptions(**options)).to_flows()
    return flow


def cut(stream, size):
    return [(at, stream[at : at + size]) for at in range(0, len(stream), size)]


def name_of(parts, **how):
    flow = flow_of(parts, **how)
    return flow.server_name or flow.http_host


MODES = pytest.mark.parametrize("mode", ["clean", "paper"])


@MODES
@pytest.mark.parametrize("stream", [HELLO, LARGE, REQUEST])
@pytest.mark.parametrize("size", [1, 3, 20, 1400])
def test_a_name_in_any_number_of_segments_is_read(stream, size, mode):
    if len(stream) // size > 1000:
        size = 2  # no more are kept
    assert name_of(cut(stream, size), mode=mode) == "chat.example.org"
    assert name_of(cut(stream, size), mode=mode, segments=2) == "chat.example.org"


@MODES
@pytest.mark.parametrize("syn", [True, False])
@pytest.mark.parametrize("stream", [HELLO, LARGE, REQUEST])
def test_a_name_whose_segments_were_reordered_is_read(stream, syn, mode):
    for size in (len(stream) // 2 + 1, 200, 37):
        parts = cut(stream, size)
        if not syn and len(parts) > 12:
            continue  # nobody knows that the first bytes are still to come
        assert name_of(parts[::-1], syn=syn, mode=mode) == "chat.example.org"
        random.Random(size).shuffle(parts)
        assert name_of(parts, syn=syn, mode=mode) == "chat.example.org"


@MODES
def test_a_segment_that_was_lost_and_sent_again_belongs_to_the_name(mode):
    first, second, third = cut(HELLO, len(HELLO) // 3 + 1)
    whole = (0, HELLO)
    for parts in (
        [second, third, first],
        [second, first, second, third],
        [second, whole],  # sent again in one piece with what follows
        [third, whole],
        [third, first, whole],
    ):
        assert name_of(parts, mode=mode) == "chat.example.org"


@MODES
def test_a_segment_that_never_came_leaves_no_name(mode):
    first, _, third = cut(HELLO, len(HELLO) // 3 + 1)
    for parts in ([first, third], [third, first], [third]):
        assert name_of(parts, mode=mode) is None


@MODES
@pytest.mark.parametrize("stream", [HELLO, REQUEST])
def test_of_two_versions_of_a_name_neither_is_given(stream, mode):
    other = stream.replace(b"chat", b"bank")
    at = stream.index(b"chat")
    for one, two in ((stream, other), (other, stream)):
        assert name_of([(0, one), (0, two)], mode=mode) is None
        assert name_of([(0, one[: at + 2]), (at - 9, two[at - 9 :])], mode=mode) is None
        assert name_of([(at + 2, one[at + 2 :]), (0, two)], mode=mode) is None


def test_a_keep_alive_probe_takes_nothing_away():
    probe = (len(HELLO) - 1, b"\0")
    assert flow_of([(0, HELLO), probe]).ja4 == flow_of([(0, HELLO)]).ja4 is not None


def test_the_halves_of_two_connections_are_not_joined_across_a_gap():
    evil = records(hello([server_name(b"evil.example" + b"x" * 900 + b".bank.example")]))
    half = evil.index(b".bank")
    assert name_of([(0, evil[:half]), (half + 40, b"bank.example" + evil[half + 13 :])]) is None


def test_what_is_no_beginning_keeps_its_first_segments_alone():
    for data in (b"\x17\3\3\0\1x", b"ssh", b"\x16\3\3\0\x20\2"):
        flow = flow_of(cut(data * 40, 6))
        assert len(flow.segment_length) == 12
    assert len(flow_of(cut(bytes([22]) + bytes(4000), 1400)).segment_length) == 12


def test_a_beginning_that_never_ends_is_kept_up_to_a_bound():
    endless = records(b"\1\0\xff\xff\3\3" + bytes(65_000))
    flow = flow_of(cut(endless[:40_000], 10))
    assert len(flow.segment_length) == 1024
    flow = flow_of(cut(endless[:40_000], 100))
    assert sum(flow.segment_length) == 16_400
    assert flow.server_name is None


def test_fragments_of_dtls_in_many_datagrams_are_joined():
    body = hello([server_name(b"call.example.org")], version=0xFEFD, cookie=b"")[4:]
    frames = [
        udp_frame(CLIENT, SERVER, record(at, 10, body=body)) for at in range(0, len(body), 10)
    ]
    frames += [udp_frame(SERVER, CLIENT, b"answer")] * 3
    packets = [(START_NS + n, frame) for n, frame in enumerate(frames)]
    options = FlowOptions(transports=(17,))
    (flow,) = read_flows(io.BytesIO(pcap_bytes(packets)), options).to_flows()
    assert flow.server_name == "call.example.org"


@settings(max_examples=120)
@given(st.data())
def test_any_cut_order_and_repetition_gives_the_name(data):
    stream = data.draw(st.sampled_from([HELLO, LARGE, REQUEST]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=25)))
    spans = list(zip([0, *cuts], [*cuts, len(stream)], strict=True))
    for begin, end in data.draw(st.lists(st.sampled_from(spans), max_size=4)):
        spans.append((max(begin - data.draw(st.integers(0, 50)), 0), end))
    spans = data.draw(st.permutations(spans))
    first = data.draw(st.sampled_from([1000, 2**32 - 40]))
    mode = data.draw(st.sampled_from(["clean", "paper"]))
    syn = len(spans) > 12 or data.draw(st.booleans())
    parts = [(begin, stream[begin:end]) for begin, end in spans]
    assert name_of(parts, first=first, syn=syn, mode=mode) == "chat.example.org"
