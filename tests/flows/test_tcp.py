"""Where a TCP connection begins and ends, which packets belong to it, and who its client is."""

import pytest

from apptell.flows import FlowBatch, FlowOptions, FlowTable
from apptell.names import add_names
from apptell.packets import decode
from apptell.testing import START_NS, client_hello, tcp_frame
from tests.flows.reference import ACK, FIN, RST, SECOND, SYN
from tests.flows.test_flow_table import PHONE, SERVER
from tests.packets.test_decode import batch_of

HELLO = client_hello("fast.example")
ISN, PEER = 5000, 9000
MS = 10**6


def add(table, packets, start_ms=0):
    """Adds packets of (ms, from the phone?, flags, sequence, acknowledgement, payload)."""
    frames, times = [], []
    for ms, is_phone, flags, sequence, acknowledgement, payload in packets:
        ends = (PHONE, SERVER) if is_phone else (SERVER, PHONE)
        frames.append(
            tcp_frame(
                *ends, payload, sequence=sequence, acknowledgement=acknowledgement, flags=flags
            )
        )
        times.append(START_NS + (start_ms + ms) * MS)
    batch = batch_of(frames)
    batch.time_ns[:] = times
    return list(table.add(decode(batch), "test"))


def flows_of(packets, **options):
    table = FlowTable(FlowOptions(**options), add_names=add_names)
    done = add(table, packets)
    flows = sorted(FlowBatch.concat(done + list(table.finish())), key=lambda flow: flow.start_ns)
    return flows, table


def opening(ms=0):
    return [
        (ms, True, SYN, ISN, 0, b""),
        (ms + 1, False, SYN | ACK, PEER, ISN + 1, b""),
        (ms + 2, True, ACK, ISN + 1, PEER + 1, b""),
    ]


def closing(ms, sent=0, received=0):
    """FIN of both sides, each acknowledged."""
    return [
        (ms, True, FIN | ACK, ISN + 1 + sent, PEER + 1 + received, b""),
        (ms + 1, False, FIN | ACK, PEER + 1 + received, ISN + 2 + sent, b""),
        (ms + 2, True, ACK, ISN + 2 + sent, PEER + 2 + received, b""),
    ]


@pytest.mark.parametrize("accepted", [len(HELLO), 40, 0])
def test_a_fast_open_is_one_connection_with_its_hello_whatever_the_server_accepts(accepted):
    rest = HELLO[accepted:]
    packets = [
        (0, True, SYN, ISN, 0, HELLO),
        (1, False, SYN | ACK, PEER, ISN + 1 + accepted, b""),
        (2, True, ACK, ISN + 1 + accepted, PEER + 1, rest),
        (3, False, ACK, PEER + 1, ISN + 1 + len(HELLO), b"answer"),
    ]
    (flow,), _ = flows_of(packets)
    assert flow.server_name == "fast.example"
    assert flow.segment_bytes == [HELLO, b"answer"]
    assert (flow.client_address, flow.client_by) == (PHONE[0], "handshake")
    assert flow.retransmissions == bool(rest)


def test_an_acknowledgement_beyond_the_data_of_a_syn_is_another_connections():
    packets = [
        (0, True, SYN, ISN, 0, HELLO),
        (1, False, SYN | ACK, PEER, ISN + 2 + len(HELLO), b""),
    ]
    assert len(flows_of(packets)[0]) == 2


@pytest.mark.parametrize("accepted", [len(HELLO), 40, 0])
@pytest.mark.parametrize("data", [HELLO, b""])
def test_a_syn_stored_behind_its_syn_ack_belongs_to_the_connection(accepted, data):
    accepted = min(accepted, len(data))
    rest = HELLO[accepted:]
    packets = [
        (1, False, SYN | ACK, PEER, ISN + 1 + accepted, b""),
        (0, True, SYN, ISN, 0, data),
        (2, True, ACK, ISN + 1 + accepted, PEER + 1, rest),
    ]
    (flow,), _ = flows_of(packets)
    assert b"".join(flow.segment_bytes) == HELLO
    assert (flow.client_address, flow.server_name) == (PHONE[0], "fast.example")


def test_a_syn_stored_behind_the_first_data_belongs_to_the_connection_too():
    syn, syn_ack, ack = opening()
    for order in (
        [syn_ack, ack, (3, True, ACK, ISN + 1, PEER + 1, b"hello"), syn],
        [syn, (3, True, ACK, ISN + 1, PEER + 1, b"hello"), syn_ack],
    ):
        (flow,), _ = flows_of(order)
        assert (flow.segment_bytes, flow.client_address) == ([b"hello"], PHONE[0])


def test_another_syn_behind_a_syn_ack_is_another_connections():
    packets = [(0, False, SYN | ACK, PEER, ISN + 1, b""), (1, True, SYN, ISN + 70, 0, b"")]
    assert len(flows_of(packets)[0]) == 2


@pytest.mark.parametrize("ahead", [50_000, 1 << 25, 1 << 30])
def test_a_forged_syn_hides_nothing_of_what_its_connection_goes_on_to_send(ahead):
    """It begins another flow; receivers ignore it (RFC 5961, section 4)."""
    forged = (3, True, SYN, ISN + ahead, 0, b"")
    begin = ISN + 1 + len(HELLO)
    data = [(5 + i, True, ACK, begin + 4 * i, PEER + 1, b"data") for i in range(4)]
    again = (20, True, ACK, begin, PEER + 1, b"data")
    packets = [*opening(), forged, (4, True, ACK, ISN + 1, PEER + 1, HELLO), *data, again]
    table = FlowTable(add_names=add_names)
    done = add(table, packets) + list(table.finish())
    _, flow = sorted(FlowBatch.concat(done), key=lambda flow: flow.start_ns)
    assert flow.server_name == "fast.example"
    assert flow.payload_bytes_to_server == len(HELLO) + 16
    assert flow.retransmissions == 1


def test_a_keep_alive_probe_of_a_new_connection_brings_nothing():
    early, late = ((3, True, ACK, ISN + at, PEER + 1, b"\0") for at in (0, 5))
    (flow,), _ = flows_of([*opening(), early, (4, True, ACK, ISN + 1, PEER + 1, b"hello"), late])
    assert flow.segment_bytes == [b"hello"]


def test_a_repeated_syn_does_not_make_repeated_data_new():
    hello = (3, True, ACK, ISN + 1, PEER + 1, b"hello")
    for repeated in opening()[:2]:
        (flow,), _ = flows_of([*opening(), hello, repeated, hello])
        assert (flow.segment_bytes, flow.retransmissions) == ([b"hello"], 1)


def test_both_sides_may_open_at_once():
    packets = [
        (0, True, SYN, ISN, 0, b""),
        (1, False, SYN, PEER, 0, b""),
        (2, True, SYN | ACK, ISN, PEER + 1, b""),
        (3, False, SYN | ACK, PEER, ISN + 1, b""),
    ]
    assert len(flows_of(packets)[0]) == 1


CLOSED = [*opening(), *closing(100)]
REFUSED = [(0, True, SYN, ISN, 0, b""), (1, False, RST | ACK, 0, ISN + 1, b"")]
RESET = [*opening(), (100, True, RST, ISN + 1, 0, b"")]
OTHER = tcp_frame(("10.0.0.9", 999), ("192.0.2.9", 443), b"x")


def at(table, time_ns):
    """A packet of another flow at a time."""
    batch = batch_of([OTHER])
    batch.time_ns[:] = time_ns
    return list(table.add(decode(batch)))


@pytest.mark.parametrize(
    ("packets", "closed_ms", "reason"),
    [(CLOSED, 102, "closed"), (REFUSED, 1, "reset"), (RESET, 100, "reset")],
)
def test_a_closed_connection_ends_a_second_of_capture_time_later(packets, closed_ms, reason):
    table = FlowTable()
    add(table, packets)
    at(table, START_NS + closed_ms * MS + SECOND)
    assert table.n_ready == 0
    at(table, START_NS + closed_ms * MS + SECOND + 1)
    assert table.n_ready == 1
    ((flow,),) = table.take()
    assert (flow.end_reason, flow.packets_to_server + flow.packets_to_client) == (
        reason,
        len(packets),
    )


def test_when_no_packet_comes_it_ends_by_the_time_that_is_told():
    table = FlowTable()
    add(table, CLOSED)
    closed_ns = START_NS + 102 * MS
    assert list(table.end_closed(closed_ns + SECOND)) == []
    ((flow,),) = table.end_closed(closed_ns + SECOND + 1)
    assert flow.end_reason == "closed"


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_a_connection_whose_fins_are_not_acknowledged_ends_when_it_is_idle(left_out):
    table = FlowTable()
    packets = closing(100)
    if left_out == 2:  # the last acknowledgement alone
        packets = packets[:2]
    else:
        packets = [packets[1 - left_out]]
    add(table, [*opening(), *packets])
    at(table, START_NS + 80 * SECOND)
    assert table.n_ready == 0
    at(table, START_NS + 101 * SECOND)
    ((flow,),) = table.take()
    assert flow.end_reason == ("closed" if left_out == 2 else "idle")


def test_an_acknowledgement_stored_before_the_fin_that_it_acknowledges_counts():
    first, second, last = closing(100)
    table = FlowTable()
    add(table, [*opening(), second, first, last])
    at(table, START_NS + 2 * SECOND)
    assert table.n_ready == 1


LATE = [
    (0, True, ACK, ISN + 2, PEER + 2, b""),
    (1, False, FIN | ACK, PEER + 1, ISN + 2, b""),
    (2, False, RST, PEER + 2, 0, b""),
    (3, True, ACK, ISN, PEER + 1, b"\0"),
]


def test_late_packets_belong_to_the_flow_for_a_second():
    (flow,), table = flows_of([*CLOSED, *[(900 + p[0], *p[1:]) for p in LATE]])
    assert flow.packets_to_server + flow.packets_to_client == len(CLOSED) + len(LATE)
    assert table.n_after_close == 0


@pytest.mark.parametrize("end", [CLOSED, RESET, REFUSED])
def test_later_ones_that_bring_nothing_new_make_no_flow_and_are_counted(end):
    (flow,), table = flows_of([*end, *[(2000 + p[0], *p[1:]) for p in LATE[:3]]])
    assert flow.packets_to_server + flow.packets_to_client == len(end)
    assert table.n_after_close == 3


def test_new_data_after_a_reset_is_the_next_part_and_not_lost():
    """A forged RST must not hide what follows it."""
    data = (5000, True, ACK, ISN + 1, PEER + 1, b"data")
    (first, second), _ = flows_of([*RESET, data])
    assert first.connection_id == second.connection_id
    assert (second.part, second.segment_bytes) == (1, [b"data"])
    assert (second.client_by, second.client_address) == ("handshake", PHONE[0])


def test_a_side_that_goes_on_after_a_reset_was_not_reset():
    data = [(500 * i, True, ACK, ISN + 1 + 4 * i, PEER + 1, b"data") for i in range(1, 9)]
    hole = (101, True, ACK, ISN + 1, PEER + 1, b"data")
    (flow,), _ = flows_of([*RESET, hole, *data])
    assert (flow.end_reason, len(flow.segment_bytes)) == ("capture", 9)


def test_data_of_the_other_side_does_not_undo_a_reset():
    answer = (110, False, ACK, PEER + 1, ISN + 1, b"answer")
    (flow,), _ = flows_of([*RESET, answer])
    assert (flow.end_reason, flow.segment_bytes) == ("reset", [b"answer"])


@pytest.mark.parametrize("flags", [RST, FIN | ACK])
def test_a_reset_or_fin_with_a_number_from_far_away_is_forged(flags):
    forged = (100, True, flags, (ISN + (1 << 30)) % 2**32, PEER + 1, b"")
    (flow,), _ = flows_of([*opening(), forged])
    assert flow.end_reason == "capture"


def test_a_syn_soon_after_its_refusal_is_another_attempt_and_later_another_connection():
    again = [(600 + packet[0], *packet[1:]) for packet in REFUSED]
    third = [(1200 + packet[0], *packet[1:]) for packet in REFUSED]
    later = [(3000 + packet[0], *packet[1:]) for packet in REFUSED]
    first, second = flows_of([*REFUSED, *again, *third, *later])[0]
    assert (first.packets_to_server, second.packets_to_server) == (3, 1)
    assert first.connection_id != second.connection_id


def test_a_refused_attempt_may_be_followed_by_an_accepted_one():
    accepted = [(600 + packet[0], *packet[1:]) for packet in opening()]
    data = (3000, True, ACK, ISN + 1, PEER + 1, b"data")
    (flow,), _ = flows_of([*REFUSED, *accepted, data])
    assert (flow.end_reason, flow.segment_bytes) == ("capture", [b"data"])


def test_a_connection_split_by_silence_keeps_its_client():
    data = [(3, True, ACK, ISN + 1, PEER + 1, b"ask"), (4, False, ACK, PEER + 1, ISN + 4, b"tell")]
    later = (100_000, False, ACK, PEER + 5, ISN + 4, b"push")
    (_, part), _ = flows_of([*opening(), *data, later])
    assert (part.client_address, part.client_by, part.has_handshake) == (
        PHONE[0],
        "handshake",
        False,
    )


@pytest.mark.parametrize("is_handed_out", [False, True])
def test_it_keeps_a_client_that_its_words_told(is_handed_out):
    table = FlowTable()
    greeting = (0, True, ACK, 1, 1, b"220 mail ready\r\n")  # the phone serves: no port would say so
    done = add(table, [greeting])
    if is_handed_out:
        done += table.advance(START_NS + 95 * SECOND)
    done += add(table, [(100_000, False, ACK, 1, 17, b"\xff")])
    done += table.finish()
    first, second = sorted(FlowBatch.concat(done), key=lambda flow: flow.part)
    assert (first.client_by, first.client_address) == ("signature", SERVER[0])
    assert (second.client_by, second.client_address) == ("signature", SERVER[0])


def long_talk(seconds, step=1):
    sent = [
        (1000 * s, True, ACK, ISN + 1 + 10 * i, PEER + 1, b"0123456789")
        for i, s in enumerate(range(1, seconds, step))
    ]
    return [*opening(), *sent]


def test_an_active_timeout_cuts_a_long_flow_into_parts_of_one_connection():
    flows, _ = flows_of(long_talk(100), active_timeout_s=30)
    assert [flow.part for flow in flows] == [0, 1, 2, 3]
    assert [flow.end_reason for flow in flows] == ["active"] * 3 + ["capture"]
    assert len({flow.connection_id for flow in flows}) == 1
    assert {flow.client_address for flow in flows} == {PHONE[0]}
    assert sum(flow.payload_bytes_to_server for flow in flows) == 990
    assert all(flow.end_ns - flow.start_ns <= 30 * SECOND for flow in flows)


def test_without_an_active_timeout_a_long_flow_is_one():
    assert len(flows_of(long_talk(100))[0]) == 1


def test_an_idle_timeout_may_be_shorter():
    flows, _ = flows_of(long_talk(100, step=30), idle_timeout_s=20)
    assert [flow.part for flow in flows] == [0, 1, 2, 3]


def test_a_late_repeat_is_not_a_part_by_the_active_timeout():
    packets = [*CLOSED, (700, False, FIN | ACK, PEER + 1, ISN + 2, b"")]
    assert len(flows_of(packets, active_timeout_s=0.5)[0]) == 1


def test_paper_mode_knows_the_5_tuple_and_the_timeout_alone():
    again = [(5000, True, SYN, ISN + 777, 0, b""), (6000, False, RST, PEER, 0, b"")]
    (flow,), table = flows_of([*CLOSED, *LATE, *again], mode="paper")
    assert flow.packets_to_server + flow.packets_to_client == len(CLOSED) + len(LATE) + 2
    assert table.n_ready == 0


def tls_talk(seconds):
    hello = (3, True, ACK, ISN + 1, PEER + 1, HELLO)
    begin = ISN + 1 + len(HELLO)
    sent = [
        (1000 * s, True, ACK, begin + 10 * s, PEER + 1, b"0123456789") for s in range(1, seconds)
    ]
    return [*opening(), hello, *sent]


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_later_parts_have_the_names_of_their_connection_however_the_packets_come(block):
    table = FlowTable(FlowOptions(active_timeout_s=10), add_names=add_names)
    packets, done = tls_talk(45), []
    for start in range(0, len(packets), block):
        done += add(table, packets[start : start + block])
        done += table.take()
    done += table.finish()
    flows = sorted(FlowBatch.concat(done), key=lambda flow: flow.part)
    assert [flow.part for flow in flows] == [0, 1, 2, 3, 4]
    assert {flow.server_name for flow in flows} == {"fast.example"}
    assert len({flow.ja4 for flow in flows}) == 1


@pytest.mark.parametrize("reports_once", [False, True])
def test_open_parts_have_them_too_also_while_the_first_part_waits_to_be_taken(reports_once):
    options = FlowOptions(active_timeout_s=10, lists_decided=True, reports_once=reports_once)
    table = FlowTable(options, add_names=add_names)
    names = []
    for packet in tls_talk(28):
        add(table, [packet])
        names += [
            (flow.part, flow.server_name) for flow in FlowBatch.concat(list(table.take_decided()))
        ]
    assert names == [(0, "fast.example"), (1, "fast.example"), (2, "fast.example")]


def test_another_connection_of_the_same_tuple_has_no_names_of_the_first():
    second = [
        (packet[0] + 50_000, packet[1], packet[2], packet[3] + 7777, packet[4], b"\0" * 20)
        for packet in opening()[:1]
    ]
    first, other = flows_of([*tls_talk(5), *second])[0]
    assert (first.server_name, other.server_name) == ("fast.example", None)
