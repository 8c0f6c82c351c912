"""The host of HTTP/1.x requests, from hand-made segments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.names.http import read_hosts
from tests.names.hellos import flows


def host(*conversation, lengths=None, offsets=None):
    segments = flows(
        [list(conversation)], lengths=lengths, offsets=None if offsets is None else [offsets]
    ).segments()
    return read_hosts(segments, np.ones(1, dtype=bool)).to_pylist()[0]


@pytest.mark.parametrize(
    ("request_head", "want"),
    [
        (b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n", "a.example.org"),
        (b"POST /x HTTP/1.1\r\nAccept: */*\r\nhOsT:\t a.org:8080 \r\n\r\n", "a.org:8080"),
        (b"GET / HTTP/1.1\nHost: bare.org\n\n", "bare.org"),
        (b"GET http://abs.org/path HTTP/1.1\r\nAccept: */*\r\n\r\n", "abs.org"),
        (
            b"GET http://abs.org/path HTTP/1.1\r\nHost: field.org\r\n\r\n",
            "abs.org",
        ),  # RFC 9112, 3.2.2
        (b"CONNECT c.org:443 HTTP/1.1\r\n\r\n", "c.org:443"),
        (b"PROPFIND / HTTP/1.1\r\nHost: dav.org\r\n\r\n", "dav.org"),
        (b"GET / HTTP/1.0\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nX-Host: a.org\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nAccept: b\r\n\r\nHost: body.org\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: cut.exam", None),
        (b"OPTIONS sip:a@b SIP/2.0\r\nHost: no\r\n\r\n", None),
        (b"GETAWAY\r\nHost: a.org\r\n\r\n", None),
        (b"", None),
    ],
)
def test_a_request_gives_its_host(request_head, want):
    assert host((True, request_head)) == want


@pytest.mark.parametrize(
    ("request_head", "want"),
    [
        (b"GET http://bank.example:80@evil.example:81/ HTTP/1.1\r\n\r\n", "evil.example:81"),
        (b"GET http://a.example?u=@bank.example HTTP/1.1\r\n\r\n", "a.example"),
        (b"GET http://a.example#bank.example HTTP/1.1\r\n\r\n", "a.example"),
        (b"GET coap+tcp://a.example HTTP/1.1\r\n\r\n", "a.example"),
        (b"GET /?u=://bank.example/ HTTP/1.0\r\n\r\n", None),
        (b"GET /http://bank.example/ HTTP/1.0\r\n\r\n", None),
        (b"GET ://bank.example/ HTTP/1.0\r\n\r\n", None),
        (b"GET 1http://bank.example/ HTTP/1.0\r\n\r\n", None),
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: bank.example\r\n\r\n", "a.example:443"),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: bank.example\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost:\r\nHost: bank.example\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\nhost: a.example \r\n\r\n", "a.example"),
        (b"GET / HTTP/1.1\r\nHost: bank.example\r\n .evil.example\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost:\r\n\tbank.example\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\nX: 1\r\n\t2\r\n\r\n", "a.example"),
        (b"GET /HTTP/1.1 RTSP/1.0\r\nHost: bank.example\r\n\r\n", None),
        (b"OPTIONS rtsp://bank.example/HTTP/ RTSP/1.0\r\n\r\n", None),
        (b"GET HTTP/1.1\r\nHost: bank.example\r\n\r\n", None),
    ],
)
def test_only_the_host_that_a_server_would_take_is_given(request_head, want):
    assert host((True, request_head)) == want
    for cut in range(8, len(request_head), 7):
        assert host((True, request_head[:cut]), (True, request_head[cut:])) == want


@pytest.mark.parametrize("cut", [8, 17, 20, 30, 34])
def test_a_head_over_two_segments_is_joined(cut):
    head = b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n"
    assert host((True, head[:cut]), (False, b"x"), (True, head[cut:])) == "a.example.org"


def test_a_segment_that_was_cut_ends_the_head():
    assert (
        host((True, b"GET / HTTP/1.1\r\n"), (True, b"Host: a.org\r\n\r\n"), lengths={(0, 0): 900})
        is None
    )


def test_a_flow_has_the_host_of_the_request_that_either_side_begins_with():
    head = b"GET / HTTP/1.1\r\nHost: a.org\r\n\r\n"
    assert host((False, head)) == "a.org"
    assert host((False, b"+OK ready"), (True, head)) == "a.org"
    assert host((True, b"hello"), (True, head)) is None  # within something else


def test_a_request_behind_a_proxy_prefix_is_found():
    head = b"PROXY TCP4 10.0.0.1 10.0.0.2 5000 80\r\nGET / HTTP/1.1\r\nHost: a.org\r\n\r\n"
    assert host((True, head)) == "a.org"
    assert host(*[(True, head[at : at + 1]) for at in range(len(head))]) == "a.org"


def test_segments_of_a_head_are_joined_in_the_order_of_their_places():
    head = b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n"
    assert host((True, head[25:]), (True, head[:25]), offsets=[25, 0]) == "good.example"
    assert host((True, head[:25]), (True, head[:25]), (True, head[25:]), offsets=[0, 0, 25]) == (
        "good.example"
    )
    assert host((True, head[:25]), (True, b"d.example\r\n\r\n"), offsets=[0, 30]) is None


def test_a_host_of_which_two_versions_were_sent_is_not_given():
    head = b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n"
    other = head.replace(b"good", b"bank")
    assert host((True, head), (True, other), offsets=[0, 0]) is None
    assert host((True, other), (True, head), offsets=[0, 0]) is None


def test_odd_bytes_of_a_host_are_escaped():
    head = "GET / HTTP/1.1\r\nHost: pay\u200bpal.example\0 x\\\r\n\r\n".encode()
    assert host((True, head)) == r"pay\u200bpal.example\x00\x20x\x5c"


@settings(max_examples=300)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=6))
def test_random_segments_never_raise(segments):
    host(*segments)
    host(*[(side, b"GET /" + data) for side, data in segments])
