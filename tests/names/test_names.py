"""Names put on flows; on real captures they are tshark's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from apptell.errors import CaptureError
from apptell.flows import FlowOptions
from apptell.names import read_flows
from apptell.names.flow_names import add_names
from tests.names.hellos import alpn, flows, hello, records, server_name
from tests.names.test_quic import SHORT, crypto, initial
from tests.names.tshark_names import tshark_names

SHARED = Path(
    os.environ.get("APPTELL_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared")
)
NAMES = ("server_name", "alpn", "ja4", "http_host")
HELLO = records(hello([server_name(b"chat.example.org"), alpn(b"h2", b"http/1.1")]))


def named(batch):
    return [tuple(getattr(flow, name) for name in NAMES) for flow in add_names(batch)]


def test_each_flow_gets_its_own_names_and_the_others_null():
    batch = flows(
        [
            [(True, b"nothing")],
            [(True, HELLO)],
            [],
            [(True, b"GET / HTTP/1.1\r\nHost: web.example.org\r\n\r\n")],
        ]
    )
    rows = named(batch)
    assert rows[0] == rows[2] == (None,) * 4
    assert rows[1][:2] == ("chat.example.org", "h2,http/1.1")
    assert rows[1][2].startswith("t12d1502h2_8daaf6152771_")
    assert rows[1][3] is None
    assert rows[3] == (None, None, None, "web.example.org")


@pytest.mark.parametrize(
    ("conversation", "want"),
    [
        ([(True, b"POST /up HTTP/1.1\r\nHost: a.org\r\n\r\n"), (True, HELLO)], None),
        ([(True, b"PUT /a.pcap HTTP/1.1\r\nHost: a.org\r\n\r\n"), (True, HELLO)], None),
        ([(True, b"x"), (False, b"HTTP/1.1 200 OK\r\n\r\n"), (False, HELLO)], None),
        (
            [(True, b"CONNECT a.org:443 HTTP/1.1\r\n\r\n"), (False, b"ok"), (True, HELLO)],
            "chat.example.org",
        ),
        (
            [(True, b"OPTIONS * HTTP/1.1\r\nUpgrade: TLS/1.0\r\n\r\n"), (True, HELLO)],
            "chat.example.org",
        ),
        (
            [(True, b"EHLO a.org\r\nSTARTTLS\r\n"), (False, b"220\r\n"), (True, HELLO)],
            "chat.example.org",
        ),
    ],
)
def test_a_hello_in_the_content_of_http_is_not_the_hello_of_the_connection(conversation, want):
    ((name, *_),) = named(flows([conversation]))
    assert name == want


def test_quic_flows_get_the_letter_q():
    (row,) = named(flows([[(True, initial(crypto(0, SHORT)))]], 17))
    assert row[:2] == ("quic.example.org", "h3")
    assert row[2].startswith("q12d1502h3_")


def test_tls_over_udp_and_quic_over_tcp_are_not_names():
    assert named(flows([[(True, HELLO)]], 17)) == [(None,) * 4]
    assert named(flows([[(True, initial(crypto(0, SHORT)))]], 6)) == [(None,) * 4]


def test_no_flows_stay_no_flows():
    assert len(add_names(flows([]))) == 0


def test_a_hello_in_http_connect_gives_both_names():
    (row,) = named(
        flows(
            [
                [
                    (True, b"CONNECT chat.example.org:443 HTTP/1.1\r\n\r\n"),
                    (False, b"HTTP/1.1 200 OK\r\n\r\n"),
                    (True, HELLO),
                ]
            ]
        )
    )
    assert (row[0], row[3]) == ("chat.example.org", "chat.example.org:443")


FILES = [
    "ndpi/tls_ech.pcapng",
    "ndpi/smtp-starttls.pcap",
    "ndpi/quic-v2.pcapng",
    "ndpi/quic-29.pcap",
    "ndpi/quic_t51.pcap",
    "ndpi/quic_frags_ch_out_of_order_same_packet_craziness.pcapng",
    "ndpi/quic_interop_V.pcapng",
    "ndpi/quic_q46.pcap",
    "android/ma1",
]


def captures():
    for name in FILES:
        path = SHARED / "captures" / name
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())[:4]
        elif path.exists():
            yield path


@pytest.mark.oracle
@pytest.mark.shared
@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.skipif(not (SHARED / "captures").is_dir(), reason="the captures are not here")
@pytest.mark.parametrize("capture", list(captures()), ids=lambda path: path.name)
def test_server_names_and_alpn_are_those_of_tshark(capture):
    ours: dict = {}
    try:
        for batch in read_flows(capture, FlowOptions(transports=(6, 17))):
            for flow in batch:
                ends = (
                    (flow.client_address, flow.client_port),
                    (
                        flow.server_address,
                        flow.server_port,
                    ),
                )
                if flow.server_name or flow.alpn:
                    ours.setdefault((flow.protocol, tuple(sorted(ends))), []).append(
                        (flow.server_name or "", flow.alpn or "")
                    )
    except CaptureError:
        pass  # what precedes the damage is compared
    theirs = {key: rows for key, rows in tshark_names(capture).items() if any(map(any, rows))}
    assert theirs
    assert {key: ours.get(key, [None])[0] in rows for key, rows in theirs.items()} == dict.fromkeys(
        theirs, True
    )
