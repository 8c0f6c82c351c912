from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from apptell.errors import UsageError
from apptell.flows import FlowBatch, FlowOptions, FlowTable
from apptell.packets import decode
from apptell.testing import FIN, PSH, START_NS, conversation, tcp_frame, udp_frame
from tests.flows.reference import ACK, RST, SYN, Packet, flows_of
from tests.packets.test_decode import batch_of

SECOND = 10**9
PHONE, SERVER = ("10.0.0.2", 40000), ("192.0.2.7", 443)


def run(packets, options=None, *, block=None, link_type=1):
    """Flows of (time, frame) pairs, added in blocks of a size."""
    table = FlowTable(options or FlowOptions())
    block = block or len(packets) or 1
    out = []
    for start in range(0, len(packets), block):
        some = packets[start : start + block]
        batch = batch_of([frame for _, frame in some], link_type)
        batch.time_ns[:] = [time_ns for time_ns, _ in some]
        out += table.add(decode(batch), "test")
    out += table.finish()
    return FlowBatch.concat(out)


def frames_of(packets):
    return [
        (
            p.time_ns,
            tcp_frame(
                p.source,
                p.target,
                p.payload,
                sequence=p.sequence,
                acknowledgement=p.acknowledgement,
                flags=p.flags,
            ),
        )
        for p in packets
    ]


BOLD = (-(10**9), -50 * 10**9, -3000 * 10**9, 2000 * 10**9, 3700 * 10**9)
"""Jumps in time, also backwards and longer than a connection is remembered."""


def random_packets(seed, n=400, jumps=()):
    """A few tuples in random traffic: handshakes, gaps, repeats, overlaps, silences, resets."""
    rng = random.Random(seed)
    hosts = [("10.0.0.2", 40000), ("10.0.0.2", 40001), ("192.0.2.7", 443), ("fd00::1", 5222)]
    pairs = [(hosts[0], hosts[2]), (hosts[1], hosts[2]), (("2001:db8::9", 50000), hosts[3])]
    now = START_NS
    position = {}
    packets = []
    for _ in range(n):
        now += (
            rng.choice([0, 1000, 10**6, 10**9, 30 * 10**9, 91 * 10**9, *jumps])
            if rng.random() < 0.3
            else 1000
        )
        client, server = rng.choice(pairs)
        source, target = (client, server) if rng.random() < 0.5 else (server, client)
        at = position.setdefault((source, target), rng.choice([1000, 2**32 - 300]))
        action = rng.random()
        flags, payload, sequence = ACK, b"", at
        if action < 0.06:
            flags = SYN if source == client else SYN | ACK
            sequence = rng.choice([at, rng.randrange(2**32)])
            position[(source, target)] = (sequence + 1) % 2**32
        elif action < 0.08:
            flags = RST
        else:
            payload = bytes(rng.randrange(256) for _ in range(rng.choice([0, 1, 5, 100, 200])))
            sequence = (at + rng.choice([0, 0, 0, 0, 100, 250, -1, -100, -250])) % 2**32
            if action < 0.8:
                position[(source, target)] = (sequence + len(payload)) % 2**32
        other = position.get((target, source), 0)
        packets.append(Packet(now, source, target, sequence, other, flags, payload))
    return packets


def assert_same(flows, expected):
    # of two flows of one tuple that begin in the same instant the first also ends first
    rows = sorted(
        flows, key=lambda flow: (flow.start_ns, flow.end_ns, flow.end_reason == "capture")
    )
    assert len(rows) == len(expected)
    by_key = {}
    for row in rows:
        ends = frozenset(
            ((row.client_address, row.client_port), (row.server_address, row.server_port))
        )
        by_key.setdefault(ends, []).append(row)
    connections = {}
    for wanted in expected:
        row = by_key[frozenset(wanted.streams)].pop(0)
        assert (row.start_ns, row.end_ns, row.part) == (
            wanted.start_ns,
            wanted.last_ns,
            wanted.part,
        )
        assert row.packets_to_server + row.packets_to_client == wanted.packets
        assert row.retransmissions == wanted.retransmissions
        assert row.out_of_order == wanted.out_of_order
        assert row.payload_packets_to_server + row.payload_packets_to_client == len(wanted.segments)
        client = (row.client_address, row.client_port)
        kept = [segment for segment in wanted.segments if segment.kept is not None]
        assert row.segment_bytes == [segment.kept for segment in kept]
        assert row.segment_time_ns == [segment.time_ns for segment in kept]
        assert row.segment_to_server == [segment.source == client for segment in kept]
        firsts = {each.source: each.sequence for each in reversed(kept)}
        assert row.segment_offset == [each.place(firsts[each.source]) for each in kept]
        assert row.sequence_length == [
            len(each.payload) if each.source == client else -len(each.payload)
            for each in wanted.segments[:32]
        ]
        assert connections.setdefault(wanted.connection, row.connection_id) == row.connection_id
    assert len(set(connections.values())) == len(connections)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("mode", ["clean", "paper"])
def test_the_kernel_agrees_with_the_rules_written_plainly(seed, mode):
    packets = random_packets(seed)
    flows = run(
        frames_of(packets), FlowOptions(mode=mode), block=random.Random(seed).randint(1, 400)
    )
    assert_same(flows, flows_of(packets, clean=mode == "clean"))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("mode", ["clean", "paper"])
def test_the_rules_hold_when_time_jumps(seed, mode):
    packets = random_packets(seed, jumps=BOLD)
    block = random.Random(seed).randint(1, 30)
    flows = run(frames_of(packets), FlowOptions(mode=mode), block=block)
    expected = flows_of(packets, clean=mode == "clean")
    assert len(flows) == len(expected)
    assert sorted(
        (f.start_ns, f.end_ns, f.part, f.packets_to_server + f.packets_to_client) for f in flows
    ) == sorted((f.start_ns, f.last_ns, f.part, f.packets) for f in expected)


@pytest.mark.parametrize("block", [1, 7, 100])
@pytest.mark.parametrize("jumps", [(), BOLD])
def test_flows_do_not_depend_on_how_the_capture_is_cut_into_blocks(block, jumps):
    frames = frames_of(random_packets(99, jumps=jumps))
    whole, cut = run(frames).to_arrow().to_pylist(), run(frames, block=block).to_arrow().to_pylist()
    order = lambda row: (row["start_ns"], row["client_address"], row["client_port"], row["part"])  # noqa: E731
    assert sorted(whole, key=order) == sorted(cut, key=order)


def test_a_conversation_is_one_flow_with_its_totals():
    packets = conversation(PHONE, SERVER, [(True, b"ask"), (False, b"answer"), (True, b"thanks")])
    (flow,) = run(packets)
    assert (flow.client_address, flow.client_port) == PHONE
    assert (flow.client_by, flow.has_handshake, flow.end_reason) == ("handshake", True, "closed")
    assert (flow.payload_packets_to_server, flow.payload_packets_to_client) == (2, 1)
    assert (flow.payload_bytes_to_server, flow.payload_bytes_to_client) == (9, 6)
    assert flow.packets_to_server + flow.packets_to_client == len(packets)
    assert flow.segment_bytes == [b"ask", b"answer", b"thanks"]
    assert flow.sequence_length == [3, -6, 6]
    assert flow.sequence_gap_us == [0, 10_000, 10_000]


def test_silence_of_90_s_belongs_to_the_flow_and_more_cuts_it():
    at = [0, 90 * SECOND, 180 * SECOND + 1]
    frames = [(START_NS + t, tcp_frame(PHONE, SERVER, b"x", sequence=i)) for i, t in enumerate(at)]
    flows = sorted(run(frames), key=lambda flow: flow.start_ns)
    assert [flow.part for flow in flows] == [0, 1]
    assert flows[0].connection_id == flows[1].connection_id
    assert [flow.end_reason for flow in flows] == ["idle", "capture"]


def test_what_was_known_at_the_fifth_payload_packet_is_frozen():
    messages = [(i % 2 == 0, b"m" * 10) for i in range(9)]
    (flow,) = run(conversation(PHONE, SERVER, messages, handshake=False, close=False))
    assert flow.decided_ns == flow.segment_time_ns[4]
    assert (flow.decided_packets_to_server, flow.decided_packets_to_client) == (3, 2)
    assert (flow.packets_to_server, flow.packets_to_client) == (5, 4)


def test_a_flow_that_never_has_five_is_decided_at_its_end():
    (flow,) = run(conversation(PHONE, SERVER, [(True, b"a"), (False, b"b")]))
    assert flow.decided_ns == flow.end_ns
    assert flow.decided_packets_to_server == flow.packets_to_server


def test_keep_alive_probes_and_repeats_are_no_payload_when_clean():
    frames = [
        (START_NS, tcp_frame(PHONE, SERVER, b"hello", sequence=100)),
        (START_NS + 1, tcp_frame(PHONE, SERVER, b"hello", sequence=100)),
        (START_NS + 2, tcp_frame(PHONE, SERVER, b"o", sequence=104)),
        (START_NS + 3, tcp_frame(PHONE, SERVER, b"lo more", sequence=103)),
    ]
    (clean,) = run(frames)
    assert clean.segment_bytes == [b"hello", b" more"]
    assert clean.retransmissions == 2
    (paper,) = run(frames, FlowOptions(mode="paper"))
    assert paper.segment_bytes == [b"hello", b"hello", b"o", b"lo more"]


@pytest.mark.parametrize(
    ("first", "rule", "client_is_sender"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "signature", True),
        (b"\x16\x03\x03\x00\x50\x02\x00\x00\x4c", "signature", False),
        (b"GET / HTTP/1.1\r\n", "signature", True),
        (b"HTTP/1.1 200 OK\r\n", "signature", False),
        (b"220 mail ready\r\n", "signature", False),
    ],
)
def test_without_a_handshake_what_is_said_tells_the_client(first, rule, client_is_sender):
    a, b = ("192.0.2.1", 40000), ("192.0.2.2", 40001)
    (flow,) = run([(START_NS, tcp_frame(a, b, first)), (START_NS + 1, tcp_frame(b, a, b"xxxx"))])
    assert flow.client_by == rule
    assert flow.client_port == (40000 if client_is_sender else 40001)


@pytest.mark.parametrize(
    ("sender", "receiver", "rule", "client_port"),
    [
        (("192.0.2.1", 443), ("192.0.2.2", 50000), "port", 50000),
        (("192.0.2.1", 5222), ("192.0.2.2", 50000), "port", 50000),
        (("192.0.2.1", 50001), ("10.0.0.1", 50000), "private", 50000),
        (("2001:db8::1", 50001), ("fd00::1", 50000), "private", 50000),
        (("192.0.2.1", 50001), ("192.0.2.2", 50000), "first", 50001),
    ],
)
def test_else_ports_then_addresses_then_who_spoke_first(sender, receiver, rule, client_port):
    (flow,) = run([(START_NS, tcp_frame(sender, receiver, b"\x17\x03\x03\x00\x01x"))])
    assert (flow.client_by, flow.client_port) == (rule, client_port)


def test_addresses_are_written_as_rfc_5952_says():
    for text in (
        "2001:db8::1",
        "::1",
        "fe80::1:0:0:1",
        "1:0:2:0:3:0:4:0",
        "::",
        "2001:0:0:1::",
        "255.0.10.9",
    ):
        peer = "192.0.2.1" if "." in text else "ffff::"
        (flow,) = run([(START_NS, tcp_frame((text, 50000), (peer, 443), b"x"))])
        assert flow.client_address == text


def test_udp_only_on_request():
    frames = [
        (START_NS, udp_frame(PHONE, SERVER, b"quic")),
        (START_NS, tcp_frame(PHONE, SERVER, b"tls")),
    ]
    assert [flow.protocol for flow in run(frames)] == [6]
    both = run(frames, FlowOptions(transports=(6, 17)))
    assert sorted(flow.protocol for flow in both) == [6, 17]


def test_reset_and_what_comes_after_it_belong_to_the_flow():
    frames = [
        (START_NS, tcp_frame(PHONE, SERVER, b"a", sequence=1)),
        (START_NS + 1, tcp_frame(SERVER, PHONE, b"", flags=RST)),
        (START_NS + 2, tcp_frame(PHONE, SERVER, b"b", sequence=2)),
    ]
    (flow,) = run(frames)
    assert (flow.end_reason, flow.segment_bytes) == ("reset", [b"a", b"b"])


def test_a_full_table_ends_its_oldest_flows_and_counts_them():
    table = FlowTable(FlowOptions(max_flows=64))
    frames = [tcp_frame(("10.0.0.2", 1024 + i), SERVER, b"x", flags=PSH | ACK) for i in range(1000)]
    batch = batch_of(frames)
    batch.time_ns[:] = START_NS + np.arange(1000)
    out = [flow for part in table.add(decode(batch)) for flow in part]
    out += [flow for part in table.finish() for flow in part]
    assert sorted(flow.client_port for flow in out) == list(range(1024, 2024))
    assert table.n_evicted == sum(flow.end_reason == "evicted" for flow in out) > 0


def test_a_full_arena_loses_no_segment():
    options = FlowOptions(segment_memory=1 << 16)
    frames = [
        (START_NS + i, tcp_frame(("10.0.0.2", 1024 + i), SERVER, bytes([i % 256]) * 1400))
        for i in range(300)
    ]
    flows = run(frames, options)
    assert len(flows) == 300
    assert all(
        flow.segment_bytes == [bytes([(flow.client_port - 1024) % 256]) * 1400] for flow in flows
    )


def test_a_flood_of_tuples_grows_the_hash_table():
    frames = [
        (
            START_NS + i,
            tcp_frame((f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", 40000), SERVER, b"", flags=SYN),
        )
        for i in range(20_000)
    ]
    flows = run(frames)
    assert len(set(flows.numpy("client_address"))) == 20_000


def test_advance_ends_silent_flows_when_no_packet_arrives():
    table = FlowTable()
    batch = batch_of([tcp_frame(PHONE, SERVER, b"x")])
    assert list(table.add(decode(batch))) == []
    assert list(table.advance(START_NS + 90 * SECOND)) == []
    (flows,) = table.advance(START_NS + 90 * SECOND + 1)
    assert (len(flows), flows[0].end_reason) == (1, "idle")


def test_segments_longer_than_what_is_kept_keep_their_true_length():
    (flow,) = run([(START_NS, tcp_frame(PHONE, SERVER, b"z" * 20_000))])
    assert (flow.segment_length, len(flow.segment_bytes[0])) == ([20_000], 4096)


def test_fin_in_both_directions_closes():
    frames = [
        (START_NS, tcp_frame(PHONE, SERVER, b"x", flags=FIN | ACK)),
        (START_NS + 1, tcp_frame(SERVER, PHONE, b"", flags=FIN | ACK)),
    ]
    (flow,) = run(frames)
    assert flow.end_reason == "closed"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "dirty"}, "flow mode 'dirty' is neither"),
        ({"transports": (1,)}, "are not some of 6"),
        ({"timeout_s": 0}, "timeout of 0 s is not above 0"),
        ({"segments": 13}, "13 segments are not 1 to 12"),
        ({"decision_packets": 1}, "a decision after 1 payload packets is not 2 to 32"),
        ({"decision_packets": 33}, "a decision after 33 payload packets is not 2 to 32"),
        ({"max_flows": 3}, "a table of 3 flows is too small"),
        ({"groups": ("core", "smell")}, "unknown column group 'smell'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        FlowOptions(**options)


def test_the_kernels_stay_inside_their_arrays(tmp_path):
    code = (
        "from tests.flows import test_table as t\n"
        "from apptell.flows import FlowOptions\n"
        "for seed in range(8):\n"
        "    for mode in ('clean', 'paper'):\n"
        "        t.run(t.frames_of(t.random_packets(seed)), FlowOptions(mode=mode), block=50)\n"
        "t.test_a_full_table_ends_its_oldest_flows_and_counts_them()\n"
        "t.test_a_full_arena_loses_no_segment()\n"
        "print('inside')\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {
        **os.environ,
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": root,
    }
    run_ = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert run_.stdout.strip() == "inside", run_.stderr
