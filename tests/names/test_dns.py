"""Answers read from DNS packets made by hand; on real captures they are tshark's."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from apptell.capture import open_capture
from apptell.errors import CaptureError
from apptell.names.dns import ANSWERS, DnsReader, read_messages
from apptell.names.dns_message import MAX_ANSWERS
from apptell.packets import Decoder, Reassembler
from apptell.testing import tcp_frame, udp_frame, write_pcap
from tests.names.dns_twin import read_plainly, record, response, wire_name

SHARED = Path(
    os.environ.get("APPTELL_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared")
)
CLIENT, RESOLVER = ("192.0.2.7", 40000), ("192.0.2.53", 53)
A = record(1, bytes([10, 0, 0, 9]))
AAAA = record(28, bytes.fromhex("20010db8000000000000000000000001"))
SYN, ACK, RST = 2, 16, 4


def answers(message: bytes) -> list[tuple[str, str, list[str], int]]:
    data = np.frombuffer(bytearray(message), dtype=np.uint8)
    found = read_messages(
        np.zeros(1, np.int64),
        np.array([len(message)]),
        data,
        np.array([[0, 0xC0000207, 4]], dtype=np.uint64),
        np.array([5]),
    )
    return [tuple(row[name] for name in ANSWERS.names[1:5]) for row in found.to_pylist()]


def read(path, reader=None, batch_bytes=None):
    """All answers of a capture as rows."""
    reader = reader or DnsReader()
    decoder = Decoder(fragments_apart=True)
    reassembler = Reassembler(decoder)
    rows = []
    with open_capture(path) as capture:
        for batch in capture:
            rows += reader(reassembler(decoder(batch))).to_pylist()
    return rows


def capture(tmp_path, *frames: bytes):
    path = tmp_path / "dns.pcap"
    write_pcap(path, [(1_700_000_000_000_000_000 + at, frame) for at, frame in enumerate(frames)])
    return path


def datagram(message: bytes, client=CLIENT, resolver=RESOLVER) -> bytes:
    return udp_frame(resolver, client, message)


def segment(data: bytes, sequence: int, flags: int = ACK) -> bytes:
    return tcp_frame(RESOLVER, CLIENT, data, sequence=sequence, flags=flags)


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


def names(rows):
    return [row["name"] for row in rows]


def test_addresses_of_both_families_are_read():
    assert answers(response(b"Chat.Example.org", A, AAAA)) == [
        ("10.0.0.9", "chat.example.org", [], 60),
        ("2001:db8::1", "chat.example.org", [], 60),
    ]


def test_a_chain_of_aliases_is_followed_in_any_order_with_its_smallest_ttl():
    first = record(5, wire_name(b"edge.cdn.example"), ttl=300)
    second = record(5, wire_name(b"host.example"), wire_name(b"edge.cdn.example"), ttl=20)
    address = record(1, bytes([10, 0, 0, 9]), wire_name(b"HOST.example"), ttl=40)
    row = ("10.0.0.9", "chat.example.org", ["edge.cdn.example", "host.example"], 20)
    for records in ([first, second, address], [address, second, first]):
        assert answers(response(b"chat.example.org", *records)) == [row]


def test_an_address_outside_the_chain_is_not_the_answer():
    stray = record(1, bytes([10, 0, 0, 9]), wire_name(b"bank.example"))
    assert answers(response(b"evil.example", stray)) == []
    circle = record(5, b"\xc0\x0c")
    assert answers(response(b"a.example", circle, circle, A)) == [
        ("10.0.0.9", "a.example", ["a.example", "a.example"], 60)
    ]


def test_hints_of_https_records_are_addresses():
    hints = b"\0\1\0" + struct.pack(">2H", 4, 8) + bytes([10, 0, 0, 1, 10, 0, 0, 2])
    hints += struct.pack(">2H", 6, 16) + bytes(15) + b"\7"
    assert [row[0] for row in answers(response(b"a.example", record(65, hints), kind=65))] == [
        "10.0.0.1",
        "10.0.0.2",
        "::7",
    ]
    alias = record(65, b"\0\0" + wire_name(b"b.example"))
    address = record(1, bytes([10, 0, 0, 9]), wire_name(b"b.example"))
    assert answers(response(b"a.example", alias, address, kind=65)) == [
        ("10.0.0.9", "a.example", ["b.example"], 60)
    ]


def test_edns_and_other_records_are_passed_over():
    text = record(16, b"\3abc")
    extension = b"\0" + struct.pack(">2HIH", 41, 4096, 0, 4) + b"\0\x0a\0\0"
    assert answers(response(b"a.example", text, A, more=extension)) == [
        ("10.0.0.9", "a.example", [], 60)
    ]


def test_questions_and_damage_give_nothing_more():
    good = response(b"a.org", A, A)
    assert answers(response(b"a.org", A, flags=0x0100)) == []
    assert answers(response(b"a.org", A, flags=0xA980)) == []
    assert answers(response(b"a.org", A, questions=2)) == []
    assert answers(good[:-1]) == [("10.0.0.9", "a.org", [], 60)]
    assert answers(good[:11]) == []
    assert answers(response(b"a.org", record(1, b"\1\2\3\4", b"\xc0\x1b" * 2))) == []
    assert answers(response(b"", A)) == []


def test_a_ttl_with_its_highest_bit_set_is_zero():
    assert answers(response(b"a.org", record(1, bytes(4), ttl=1 << 31)))[0][3] == 0


def test_a_name_that_points_to_itself_or_forward_ends():
    head = struct.pack(">6H", 7, 0x8180, 1, 1, 0, 0)
    assert answers(head + b"\xc0\x0c\0\1\0\1" + A) == []
    assert answers(head + b"\xc0\x12\0\1\0\1\1a\0" + A) == []


def test_many_pointers_and_records_take_no_time_and_little_room():
    pointers = b"".join(struct.pack(">H", 0xC000 | 12 + 2 * max(at - 1, 0)) for at in range(8000))
    head = struct.pack(">6H", 7, 0x8180, 1, 60000, 0, 0)
    assert answers(head + pointers + bytes(5) * 9000) == []
    many = answers(response(b"a.org", *[record(1, bytes(4))] * 4000))
    assert len(many) == MAX_ANSWERS


def test_odd_bytes_of_labels_are_escaped():
    name = b"\4pa.y" + b"\5\xe2\x80\x8bx\0" + b"\7Example\0"
    message = struct.pack(">6H", 7, 0x8180, 1, 1, 0, 0) + name + b"\0\1\0\1" + A
    assert answers(message)[0][1] == r"pa\x2ey.\u200bx\x00.example"


MESSAGES = st.builds(
    lambda name, records, cut, flips: _spoil(response(name, *records), cut, flips),
    st.sampled_from([b"a.org", b"chat.example.org", b"x" * 63 + b"." + b"y" * 63]),
    st.lists(
        st.one_of(
            st.sampled_from([A, AAAA, record(5, b"\xc0\x0c"), record(5, b"\1b\xc0\x0c")]),
            st.builds(
                lambda kind, owner, data: record(kind, data, owner),
                st.sampled_from([1, 5, 16, 28]),
                st.sampled_from([b"\xc0\x0c", b"\1b\xc0\x0c", b"\0", b"\xc0\x0e"]),
                st.sampled_from([bytes(4), bytes(16), b"\1b\xc0\x0c", b"\1c\0", b"\xc0\x20"]),
            ),
        ),
        max_size=6,
    ),
    st.integers(0, 30),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=3),
)


def _spoil(message: bytes, cut: int, flips: list[tuple[int, int]]) -> bytes:
    data = bytearray(message[: len(message) - cut])
    for place, value in flips:
        if place < len(data):
            data[place] = value
    return bytes(data)


@settings(max_examples=300)
@given(MESSAGES)
@example(b"")
def test_spoiled_responses_are_read_as_the_specification_says(message):
    assume(b"\0\x41\0\1" not in message)  # the plain reading knows no HTTPS records
    assert answers(message) == read_plainly(message)


@given(st.binary(max_size=200))
def test_random_messages_never_raise(data):
    answers(data)
    answers(response(b"a.org", A) + data)
    answers(struct.pack(">6H", 7, 0x8180, 1, 9, 0, 0) + data)


def test_every_response_on_one_socket_is_read_with_its_client_and_time(tmp_path):
    frames = [datagram(response(b"n%d.example" % at, A)) for at in range(40)]
    frames.insert(3, udp_frame(CLIENT, RESOLVER, response(b"query.example", A, flags=0x0100)))
    frames.append(
        datagram(response(b"six.example", AAAA), ("2001:db8::7", 9), ("2001:db8::53", 53))
    )
    rows = read(capture(tmp_path, *frames))
    assert names(rows) == [f"n{at}.example" for at in range(40)] + ["six.example"]
    assert rows[5] == {
        "client": "192.0.2.7",
        "address": "10.0.0.9",
        "name": "n5.example",
        "aliases": [],
        "ttl_s": 60,
        "place": 1_700_000_000_000_000_006,
    }
    assert rows[-1]["client"] == "2001:db8::7"


def test_packets_of_other_ports_and_empty_batches_give_no_rows(tmp_path):
    other = udp_frame(("192.0.2.53", 5353), CLIENT, response(b"a.example", A))
    assert read(capture(tmp_path, other)) == []


TCP_MESSAGES = [response(b"n%d.example" % at, A, AAAA) for at in range(6)]
STREAM = framed(*TCP_MESSAGES)
TCP_NAMES = [f"n{at}.example" for at in range(6) for _ in range(2)]


@pytest.mark.parametrize(
    ("order", "size"),
    [
        (order, size)
        for order in ("in order", "each twice", "overlapping")
        for size in (1, 2, 50, 700)
    ]
    + [("reversed", size) for size in (5, 50, 700)],  # no more than wait behind a gap
)
def test_messages_over_tcp_are_joined_by_sequence_number(tmp_path, size, order):
    first = 2**32 - 100
    parts = [(at, STREAM[at : at + size]) for at in range(0, len(STREAM), size)]
    if order == "reversed":
        parts.reverse()
    elif order == "each twice":
        parts = [part for part in parts for _ in range(2)]
    elif order == "overlapping":
        parts = [(max(at - 5, 0), STREAM[max(at - 5, 0) : at + size]) for at, _ in parts]
    frames = [segment(b"", first - 1, SYN | ACK)]
    frames += [segment(data, (first + at) % 2**32) for at, data in parts]
    assert names(read(capture(tmp_path, *frames))) == TCP_NAMES


def test_the_bytes_received_first_count():
    from apptell.names.dns_stream import DnsStreams

    good, bad = framed(response(b"good.example", A)), framed(response(b"evil.example", A))
    streams = DnsStreams(4)
    assert streams.add((1,), 99, SYN, b"") == []
    assert streams.add((1,), 110, ACK, good[10:]) == []
    assert streams.add((1,), 105, ACK, bad[5:]) == []
    assert streams.add((1,), 100, ACK, good[:7]) == [good[2:]]


def test_a_connection_caught_midway_or_with_a_gap_is_taken_up_again(tmp_path):
    first, second, third = (framed(message) for message in TCP_MESSAGES[:3])
    at = 1000
    rows = read(capture(tmp_path, segment(first[30:], at), segment(second, at + 500)))
    assert names(rows) == ["n1.example"] * 2
    rows = read(
        capture(
            tmp_path,
            segment(first, at),
            segment(second[20:], at + len(first) + 20),
            segment(b"", at, RST),
            segment(third, at + 5000),
        )
    )
    assert names(rows) == ["n0.example", "n0.example", "n2.example", "n2.example"]


def test_memory_of_connections_is_bounded():
    from apptell.names.dns_stream import MAX_LATER_BYTES, DnsStreams

    streams = DnsStreams(3)
    for key in range(10):
        streams.add((key,), 0, SYN, b"")
        for at in range(100):
            streams.add((key,), 2000 + 1500 * at, ACK, bytes(1400))
        held = [d.later for d in streams._directions.values()]
        assert sum(len(data) for later in held for _, data in later) <= 3 * (MAX_LATER_BYTES + 1400)
    assert len(streams) <= 3


TSHARK_FIELDS = ("dns.qry.name", "dns.a", "dns.aaaa")


def tshark_answers(path: Path) -> set[tuple[str, str]]:
    """(name, address) in every response from port 53 with one question."""
    command = ["tshark", "-n", "-r", str(path), "-Y"]
    command += [
        "dns.flags.response == 1 && dns.count.queries == 1 && (udp.srcport == 53 || tcp.srcport == 53)"
    ]
    command += ["-T", "fields", "-E", "aggregator=|", "-E", "occurrence=a"]
    for field in TSHARK_FIELDS:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, check=False, text=True, errors="replace")
    found = set()
    for line in done.stdout.splitlines():
        name, *addresses = line.split("\t")
        for address in "|".join(addresses).split("|"):
            if address:
                found.add((name.lower(), address))
    return found


FILES = [
    "real",
    "ndpi/dns_doh.pcap",
    "ndpi/dns-tunnel-iodine.pcap",
    "ndpi/dns_long_domainname.pcap",
]


def captures():
    for name in FILES:
        path = SHARED / "captures" / name
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*.pcap*") if file.is_file())[:6]
        elif path.exists():
            yield path


@pytest.mark.oracle
@pytest.mark.shared
@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.skipif(not (SHARED / "captures").is_dir(), reason="the captures are not here")
@pytest.mark.parametrize("path", list(captures()), ids=lambda path: path.name)
def test_answers_are_those_of_tshark(path):
    try:
        ours = {(row["name"], row["address"]) for row in read(path)}
    except CaptureError:
        pytest.skip("a damaged capture")
    assert tshark_answers(path) <= ours
