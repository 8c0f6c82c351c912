from __future__ import annotations

import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from apptell.errors import UsageError
from apptell.flows import FlowBatch, FlowOptions, FlowTable
from apptell.packets import decode
from apptell.testing import FIN, PSH, START_NS, conversation, tcp_frame, udp_frame
from tests.flows.reference import ACK, RST, SYN, Flow, Packet, Twin
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
    """A few tuples in random traffic: handshakes, gaps, repeats, overlaps, silences, ends, attempts."""
    rng = random.Random(seed)
    hosts = [("10.0.0.2", 40000), ("10.0.0.2", 40001), ("192.0.2.7", 443), ("fd00::1", 5222)]
    pairs = [(hosts[0], hosts[2]), (hosts[1], hosts[2]), (("2001:db8::9", 50000), hosts[3])]
    now = START_NS
    position = {}
    packets = []
    for _ in range(n):
        now += (
            rng.choice([0, 1000, 10**6, 10**9, 10**9 + 1, 30 * 10**9, 91 * 10**9, *jumps])
            if rng.random() < 0.3
            else 1000
        )
        client, server = rng.choice(pairs)
        source, target = (client, server) if rng.random() < 0.5 else (server, client)
        at = position.setdefault((source, target), rng.choice([1000, 2**32 - 300]))
        other = position.get((target, source), 0)
        action = rng.random()
        flags, payload, sequence = ACK, b"", at
        if action < 0.1:
            flags = SYN if source == client else SYN | ACK
            sequence = rng.choice([at, at - 1, rng.randrange(2**32)]) % 2**32
            payload = bytes(rng.choice([0, 0, 100]))
            position[(source, target)] = (sequence + 1 + rng.choice([0, len(payload)])) % 2**32
            other = (other + rng.choice([0, 0, 0, 1, -50, 50])) % 2**32
        elif action < 0.16:
            flags = rng.choice([RST, RST | ACK, FIN | ACK, FIN | ACK, FIN])
            sequence = (at + rng.choice([0, 0, 0, 0, 1, 1 << 30])) % 2**32
            position[(source, target)] = (at + rng.choice([0, 1])) % 2**32
        else:
            payload = bytes(rng.randrange(256) for _ in range(rng.choice([0, 1, 5, 100, 200])))
            sequence = (at + rng.choice([0, 0, 0, 0, 100, 250, -1, -100, -250])) % 2**32
            if action < 0.8:
                position[(source, target)] = (sequence + len(payload)) % 2**32
        packets.append(Packet(now, source, target, sequence, other, flags, payload))
    return packets


def described(flow):
    """What a flow of the table and one of the twin have in common."""
    if isinstance(flow, Flow):
        segments = [each for each in flow.segments if each.kept is not None]
        firsts = {each.source: each.sequence for each in reversed(segments)}
        kept = [
            (each.time_ns, each.source, each.place(firsts[each.source]), each.kept)
            for each in segments
        ]
        lengths = [(each.source, len(each.payload)) for each in flow.segments[:32]]
        ends = frozenset(flow.connection.sides)
        counts = (flow.packets, len(flow.segments))
        last_ns, has_syn = flow.last_ns, flow.has_syn
    else:
        client = (flow.client_address, flow.client_port)
        server = (flow.server_address, flow.server_port)
        senders = [client if to_server else server for to_server in flow.segment_to_server]
        kept = list(
            zip(
                flow.segment_time_ns,
                senders,
                flow.segment_offset,
                flow.segment_bytes,
                strict=True,
            )
        )
        lengths = [(client if n > 0 else server, abs(n)) for n in flow.sequence_length]
        ends = frozenset((client, server))
        counts = (
            flow.packets_to_server + flow.packets_to_client,
            flow.payload_packets_to_server + flow.payload_packets_to_client,
        )
        last_ns, has_syn = flow.end_ns, flow.has_handshake
    marks = (flow.start_ns, last_ns, flow.part, flow.end_reason, has_syn)
    seen = (flow.retransmissions, flow.out_of_order)
    return (sorted(ends), *marks, *counts, *seen, kept, lengths)


def assert_same(flows, expected):
    found = sorted(((described(flow), flow) for flow in flows), key=lambda pair: pair[0])
    wanted = sorted(((described(flow), flow) for flow in expected), key=lambda pair: pair[0])
    assert [each for each, _ in found] == [each for each, _ in wanted]
    connections, clients = {}, {}
    for (_, row), (_, flow) in zip(found, wanted, strict=True):
        number = flow.connection.number
        assert connections.setdefault(number, row.connection_id) == row.connection_id
        if flow.client is not None:
            assert (row.client_address, row.client_port) == flow.client
            assert row.client_by == "handshake"
        clients.setdefault(number, []).append(
            (row.part, row.client_by, row.client_port, row.has_handshake)
        )
    assert len(set(connections.values())) == len(connections)
    for parts in clients.values():
        for (_, rule, client, _), (_, later_rule, later, has_syn) in pairwise(sorted(parts)):
            is_stronger = RULES.index(later_rule) < RULES.index(rule)
            assert later == client or has_syn or is_stronger


RULES = ("handshake", "signature", "port", "private", "first")


def with_table(packets, options, *, block=400):
    """Flows and the table that made them."""
    table = FlowTable(options)
    frames, out = frames_of(packets), []
    for start in range(0, len(frames), block):
        batch = batch_of([frame for _, frame in frames[start : start + block]])
        batch.time_ns[:] = [time_ns for time_ns, _ in frames[start : start + block]]
        out += table.add(decode(batch), "test")
    return FlowBatch.concat(out + list(table.finish())), table


@pytest.mark.parametrize("active_s", [None, 20.0])
@pytest.mark.parametrize("jumps", [(), BOLD])
@pytest.mark.parametrize("mode", ["clean", "paper"])
@pytest.mark.parametrize("seed", range(20))
def test_the_kernel_agrees_with_the_rules_written_plainly(seed, mode, jumps, active_s):
    packets = random_packets(seed, jumps=jumps)
    options = FlowOptions(mode=mode, active_timeout_s=active_s)
    flows, table = with_table(packets, options, block=random.Random(seed).randint(1, 400))
    active_ns = None if active_s is None else int(active_s * SECOND)
    twin = Twin(clean=mode == "clean", active_ns=active_ns)
    for packet in packets:
        twin.add(packet)
    assert_same(flows, twin.finish())
    assert table.n_after_close == twin.strays
    assert table.n_flow_packets + table.n_after_close == len(packets)


@pytest.mark.parametrize("mode", ["clean", "paper"])
@pytest.mark.parametrize("seed", range(4))
def test_the_kernel_cuts_late_views_after_as_many_packets_as_the_rules_say(seed, mode):
    packets = random_packets(seed)
    flows, _ = with_table(packets, FlowOptions(mode=mode, late_view_packets=3))
    twin = Twin(clean=mode == "clean", view_packets=3)
    for packet in packets:
        twin.add(packet)
    assert_same(flows, twin.finish())


def test_late_views_begin_after_two_six_fourteen_packets_and_the_last_one_is_not_cut():
    messages = [(i % 2 == 0, bytes([i]) * 10) for i in range(200)]
    flows = run(conversation(PHONE, SERVER, messages), FlowOptions(late_view_packets=2))
    flows = sorted(flows, key=lambda flow: flow.part)
    sizes = [flow.payload_packets_to_server + flow.payload_packets_to_client for flow in flows]
    assert sizes == [2, 4, 8, 16, 32, 138]
    assert len({flow.connection_id for flow in flows}) == 1
    assert [flow.segment_bytes[0][0] for flow in flows] == [0, 2, 6, 14, 30, 62]
    assert {flow.client_port for flow in flows} == {PHONE[1]}


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
        ({"transports": (1,)}, "no transport protocol 1; available: tcp"),
        ({"transports": "icmp"}, "no transport protocol 'icmp'"),
        ({"transports": ()}, "no transport protocol at all"),
        ({"idle_timeout_s": 0}, "idle timeout of 0 s is not above 0"),
        ({"active_timeout_s": -1}, "active timeout of -1 s is not above 0"),
        ({"segments": 13}, "13 segments are not 1 to 12"),
        ({"decision_packets": 1}, "a decision after 1 payload packets is not 2 to 32"),
        ({"decision_packets": 33}, "a decision after 33 payload packets is not 2 to 32"),
        ({"max_flows": 3}, "a table of 3 flows is not one of 64"),
        ({"groups": ("core", "smell")}, "unknown column group 'smell'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        FlowOptions(**options)


@pytest.mark.slow
def test_the_kernels_stay_inside_their_arrays(bounds_checked):
    code = (
        "from tests.flows import test_flow_table as t\n"
        "from apptell.flows import FlowOptions\n"
        "for seed in range(8):\n"
        "    for mode in ('clean', 'paper'):\n"
        "        t.run(t.frames_of(t.random_packets(seed)), FlowOptions(mode=mode), block=50)\n"
        "t.test_a_full_table_ends_its_oldest_flows_and_counts_them()\n"
        "t.test_a_full_arena_loses_no_segment()\n"
        "print('inside')\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**bounds_checked, "PYTHONPATH": root}
    run_ = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert run_.stdout.strip() == "inside", run_.stderr
