"""Open flows are handed out as soon as a verdict is due, and end as they would have ended anyway."""

import pytest

from apptell.flows import FlowBatch, FlowOptions, FlowTable
from apptell.flows.schema import CORE
from apptell.names import add_names
from apptell.packets import decode
from apptell.testing import START_NS, client_hello, conversation
from tests.flows.test_flow_table import PHONE, SECOND, SERVER, frames_of, random_packets
from tests.packets.test_decode import batch_of

LIVE = FlowOptions(lists_decided=True)
EVIDENCE = [
    "connection_id", "part", "start_ns", "client_address", "client_port", "server_address", "server_port",
    "decided_ns", "decided_packets_to_server", "decided_packets_to_client", "decided_bytes_to_server",
    "decided_bytes_to_client",
]  # fmt: skip


def add(table, packets):
    batch = batch_of([frame for _, frame in packets], 1)
    batch.time_ns[:] = [time_ns for time_ns, _ in packets]
    return list(table.add(decode(batch), "test"))


def evidence(flow):
    first = {name: getattr(flow, name) for name in EVIDENCE}
    for name in ("segment_length", "segment_to_server", "segment_time_ns", "segment_bytes"):
        first[name] = getattr(flow, name)[:5]
    return first


def talk(n_messages, **more):
    says = [(i % 2 == 0, bytes([i + 1]) * 50) for i in range(n_messages)]
    return conversation(PHONE, SERVER, says, **more)


def test_a_flow_is_handed_out_at_its_fifth_payload_packet_and_only_once():
    table = FlowTable(LIVE)
    handed_out = []
    packets = talk(7, close=False)
    payload_seen = []
    for packet in packets:
        assert add(table, [packet]) == []
        handed_out += table.take_decided()
        payload_seen.append(len(handed_out))
    (batch,) = handed_out
    (flow,) = batch
    assert flow.segment_length == [50] * 5
    assert payload_seen.index(1) == packets.index(
        next(p for p in packets if p[0] == flow.decided_ns)
    )
    assert list(table.take_decided()) == []
    (ended,) = FlowBatch.concat(list(table.finish()))
    assert ended.payload_packets_to_server + ended.payload_packets_to_client == 7
    assert evidence(ended) == evidence(flow)


def test_a_flow_is_handed_out_later_for_a_model_that_wants_more_packets():
    table = FlowTable(FlowOptions(lists_decided=True, decision_packets=10))
    packets = talk(12, close=False)
    handed_out = []
    for packet in packets:
        assert add(table, [packet]) == []
        handed_out += table.take_decided()
    (flow,) = FlowBatch.concat(handed_out)
    assert flow.payload_packets_to_server + flow.payload_packets_to_client == 10
    assert len(flow.sequence_length) == 10
    assert flow.decided_ns == flow.segment_time_ns[9]
    assert flow.decided_packets_to_server == flow.packets_to_server
    (ended,) = FlowBatch.concat(list(table.finish()))
    assert len(ended.sequence_length) == 12
    assert evidence(ended) == evidence(flow)


def test_a_flow_with_fewer_packets_than_the_model_wants_is_decided_at_its_end():
    table = FlowTable(FlowOptions(lists_decided=True, decision_packets=10))
    packets = talk(9, close=False)
    assert add(table, packets) == []
    assert list(table.take_decided()) == []
    (ended,) = FlowBatch.concat(list(table.finish()))
    assert ended.decided_ns == ended.end_ns == packets[-1][0]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("block", [1, 13, 400])
def test_what_a_verdict_rests_on_is_the_same_while_the_flow_is_open_and_when_it_ended(seed, block):
    table, plain = FlowTable(LIVE), FlowTable()
    frames = frames_of(random_packets(seed))
    open_flows, ended, expected = [], [], []
    for start in range(0, len(frames), block):
        ended += add(table, frames[start : start + block])
        expected += add(plain, frames[start : start + block])
        open_flows += table.take_decided()
    ended += table.finish()
    expected += plain.finish()
    young, all_ended = FlowBatch.concat(open_flows), FlowBatch.concat(ended)
    assert all_ended.to_arrow().equals(FlowBatch.concat(expected).to_arrow())
    by_key = {(flow.connection_id, flow.part): flow for flow in all_ended}
    assert len({(flow.connection_id, flow.part) for flow in young}) == len(young)
    for flow in young:
        assert evidence(flow) == evidence(by_key[flow.connection_id, flow.part])
    if block == 1:  # nothing can end before it is asked for
        due = [
            flow
            for flow in all_ended
            if flow.payload_packets_to_server + flow.payload_packets_to_client >= 5
        ]
        assert len(young) == len(due) > 0


def test_a_flow_that_ended_before_it_was_asked_for_comes_only_as_a_finished_one():
    table = FlowTable(LIVE)
    add(table, talk(6))
    (ended,) = FlowBatch.concat(list(table.finish()))
    assert ended.decided_ns
    assert list(table.take_decided()) == []


def test_a_record_that_is_used_again_gives_the_new_flow_and_not_the_old_one():
    table = FlowTable(LIVE)
    add(table, talk(6))
    list(table.advance(START_NS + 200 * SECOND))
    add(table, talk(6, start_ns=START_NS + 300 * SECOND, close=False))
    (flow,) = FlowBatch.concat(list(table.take_decided()))
    assert flow.start_ns == START_NS + 300 * SECOND


def test_after_a_time_a_verdict_is_due_on_what_there_is():
    table = FlowTable(LIVE)
    add(table, talk(3, close=False))
    table.decide_after(2.0, START_NS + SECOND)
    assert list(table.take_decided()) == []
    table.decide_after(2.0, START_NS + 2 * SECOND)
    (flow,) = FlowBatch.concat(list(table.take_decided()))
    assert flow.decided_ns == START_NS + 2 * SECOND
    assert flow.segment_length == [50] * 3
    table.decide_after(2.0, START_NS + 3 * SECOND)
    assert list(table.take_decided()) == []


def test_after_a_time_a_flow_with_one_payload_packet_waits_on():
    table = FlowTable(LIVE)
    add(table, talk(1, close=False))
    table.decide_after(2.0, START_NS + 5 * SECOND)
    assert list(table.take_decided()) == []


def test_nothing_is_listed_unless_asked_for():
    table = FlowTable()
    add(table, talk(7, close=False))
    assert list(table.take_decided()) == []
    assert len(table._memory.young) == 0


EARLY = FlowOptions(lists_decided=True, lists_early=True)


def test_asked_for_early_a_flow_comes_at_each_payload_packet_before_its_fifth():
    table = FlowTable(EARLY)
    seen = []
    for packet in talk(7, close=False):
        add(table, [packet])
        seen += [len(flow.segment_length) for batch in table.take_early() for flow in batch]
        seen += [-len(flow.segment_length) for batch in table.take_decided() for flow in batch]
    assert seen == [1, 2, 3, 4, -5]


def test_what_is_known_early_is_what_was_so_far():
    table = FlowTable(EARLY)
    packets = talk(3, close=False)
    add(table, packets)
    (flow,) = FlowBatch.concat(list(table.take_early()))
    assert flow.decided_ns == flow.end_ns == packets[-1][0]
    assert flow.decided_packets_to_server == flow.packets_to_server
    assert list(table.take_early()) == []


def test_a_flow_that_was_decided_or_ended_before_it_was_asked_for_is_no_early_one():
    table = FlowTable(EARLY)
    add(table, talk(6, close=False))
    assert list(table.take_early()) == []
    assert len(FlowBatch.concat(list(table.take_decided()))) == 1
    add(table, talk(3, start_ns=START_NS + 300 * SECOND))
    list(table.finish())
    assert list(table.take_early()) == []


@pytest.mark.parametrize("block", [1, 13, 400])
def test_asking_early_changes_no_flow(block):
    table, plain = FlowTable(EARLY), FlowTable(LIVE)
    frames = frames_of(random_packets(3))
    found, expected = [], []
    for start in range(0, len(frames), block):
        for each, made in ((table, found), (plain, expected)):
            made += add(each, frames[start : start + block])
            made += each.take_decided()
        list(table.take_early())
    found += table.finish()
    expected += plain.finish()
    assert FlowBatch.concat(found).to_arrow().equals(FlowBatch.concat(expected).to_arrow())


def test_a_flow_whose_hello_was_told_ends_without_segments_and_the_others_with_them():
    options = FlowOptions(lists_decided=True, reports_once=True)
    table, plain = FlowTable(options, add_names=add_names), FlowTable(add_names=add_names)
    hello = client_hello("a.example.test")
    plain_words = [(i % 2 == 0, bytes([i + 1]) * 50) for i in range(7)]
    tls = [(True, hello), *plain_words]
    packets = sorted(
        conversation(PHONE, SERVER, tls)
        + conversation((PHONE[0], PHONE[1] + 1), SERVER, plain_words)
    )
    for packet in packets:
        add(table, [packet])
        add(plain, [packet])
        list(table.take_decided())
    ended, expected = list(table.finish()), FlowBatch.concat(list(plain.finish()))
    by_port = {flow.client_port: flow for batch in ended for flow in batch}
    assert len(by_port) == len(expected) == 2
    for flow in expected:
        told = by_port[flow.client_port]
        assert [getattr(told, name) for name in CORE] == [getattr(flow, name) for name in CORE]
    (short,) = [batch for batch in ended if "segment_length" not in batch.columns]
    (whole,) = [batch for batch in ended if "segment_length" in batch.columns]
    assert [flow.client_port for flow in short] == [PHONE[1]]
    assert [flow.segment_length for flow in whole] == [[50] * 7]
