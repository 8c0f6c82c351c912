"""Names of addresses from hand-made DNS answers."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from apptell.flows.schema import FlowBatch
from apptell.names.dns import DnsNames, add_dns_names, read_answers
from tests.names.hellos import flows


def question(name: bytes) -> bytes:
    labels = b"".join(bytes([len(label)]) + label for label in name.split(b"."))
    return labels + b"\0" + struct.pack(">2H", 1, 1)


def record(kind: int, data: bytes, owner: bytes = b"\xc0\x0c") -> bytes:
    return owner + struct.pack(">2HIH", kind, 1, 60, len(data)) + data


def response(name: bytes, *records: bytes, flags: int = 0x8180, questions: int = 1) -> bytes:
    head = struct.pack(">6H", 7, flags, questions, len(records), 0, 0)
    return head + question(name) + b"".join(records)


A = record(1, bytes([10, 0, 0, 9]))
AAAA = record(28, bytes.fromhex("20010db8000000000000000000000001"))


def test_addresses_of_both_families_are_read():
    assert read_answers(response(b"Chat.Example.org", A, AAAA)) == [
        ("chat.example.org", "10.0.0.9"),
        ("chat.example.org", "2001:db8::1"),
    ]


def test_a_chain_of_aliases_gives_the_name_that_was_asked():
    alias = record(5, b"\3cdn\xc0\x11")
    address = record(1, bytes([10, 0, 0, 9]), b"\3cdn\xc0\x11")
    assert read_answers(response(b"chat.example.org", alias, address)) == [
        ("chat.example.org", "10.0.0.9")
    ]


def test_questions_and_damage_give_nothing_more():
    good = response(b"a.org", A, A)
    assert read_answers(response(b"a.org", A, flags=0x0100)) == []
    assert read_answers(response(b"a.org", A, questions=2)) == []
    assert read_answers(good[:-1]) == [("a.org", "10.0.0.9")]
    assert read_answers(good[:11]) == []
    assert read_answers(response(b"a.org", record(1, b"\1\2\3\4", b"\xc0\x1b" * 2))) == []


def test_a_name_that_points_to_itself_ends():
    assert read_answers(struct.pack(">6H", 7, 0x8180, 1, 1, 0, 0) + b"\xc0\x0c\0\1\0\1" + A) == []


@given(st.binary(max_size=200))
def test_random_messages_never_raise(data):
    read_answers(data)
    read_answers(response(b"a.org", A) + data)
    read_answers(struct.pack(">6H", 7, 0x8180, 1, 9, 0, 0) + data)


def test_a_flow_gets_the_name_last_answered_before_it():
    known = DnsNames()
    known.add("10.0.0.9", "old.org", 100)
    known.add("10.0.0.9", "new.org", 300)
    known.add("10.0.0.9", "middle.org", 200)
    assert [known.name_of("10.0.0.9", time) for time in (50, 100, 250, 900)] == [
        None,
        "old.org",
        "middle.org",
        "new.org",
    ]
    assert known.name_of("10.0.0.8", 900) is None


def test_memory_is_bounded():
    known = DnsNames(max_addresses=3)
    for index in range(10):
        known.add(f"10.0.0.{index}", "a.org", index)
        for time in range(100):
            known.add("10.0.0.1", "b.org", time)
    assert len(known) == 3
    assert known.name_of("10.0.0.9", 10) == "a.org"
    assert known.name_of("10.0.0.5", 10) is None


def test_flows_learn_from_dns_flows_of_the_same_batch_and_of_earlier_ones():
    asking = flows([[(True, b"query"), (False, response(b"chat.example.org", A))]], 17)
    later = FlowBatch.from_columns(
        {
            "protocol": [6, 6],
            "server_address": ["10.0.0.9", "10.0.0.8"],
            "server_port": [443, 443],
            "start_ns": [5, 5],
        }
    )
    known = DnsNames()
    assert add_dns_names(asking, known).column("dns_name").to_pylist() == [None]
    named = add_dns_names(later, known)
    assert named.column("dns_name").to_pylist() == ["chat.example.org", None]
    assert add_dns_names(later, DnsNames()).column("dns_name").to_pylist() == [None, None]
