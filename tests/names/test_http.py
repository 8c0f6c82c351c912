"""The host of HTTP/1.x requests, from hand-made segments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.names.http import read_hosts
from tests.names.hellos import flows


def host(*conversation, lengths=None):
    segments = flows([list(conversation)], lengths=lengths).segments()
    return read_hosts(segments, np.ones(1, dtype=bool))[0].as_py()


@pytest.mark.parametrize(
    ("request_head", "want"),
    [
        (b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n", "a.example.org"),
        (b"POST /x HTTP/1.1\r\nAccept: */*\r\nhOsT:\t a.org:8080 \r\n\r\n", "a.org:8080"),
        (b"GET / HTTP/1.1\nHost: bare.org\n\n", "bare.org"),
        (b"GET http://abs.org/path HTTP/1.1\r\nAccept: */*\r\n\r\n", "abs.org"),
        (b"GET http://abs.org/path HTTP/1.1\r\nHost: field.org\r\n\r\n", "field.org"),
        (b"CONNECT c.org:443 HTTP/1.1\r\n\r\n", "c.org:443"),
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


@pytest.mark.parametrize("cut", [8, 17, 20, 30, 34])
def test_a_head_over_two_segments_is_joined(cut):
    head = b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n"
    assert host((True, head[:cut]), (False, b"x"), (True, head[cut:])) == "a.example.org"


def test_a_segment_that_was_cut_ends_the_head():
    assert (
        host((True, b"GET / HTTP/1.1\r\n"), (True, b"Host: a.org\r\n\r\n"), lengths={(0, 0): 900})
        is None
    )


def test_a_request_from_the_side_called_server_and_a_later_one_are_found():
    head = b"GET / HTTP/1.1\r\nHost: a.org\r\n\r\n"
    assert host((False, head)) == "a.org"
    assert host((True, b"hello"), (True, head)) == "a.org"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=6))
def test_random_segments_never_raise(segments):
    host(*segments)
    host(*[(side, b"GET /" + data) for side, data in segments])
