"""When a capturing thread hands out the flows of its source."""

import threading

import pytest

from apptell.catalogue import Catalogue
from apptell.catalogue.tables import Tables
from apptell.flows import FlowOptions
from apptell.service.packet_path import PacketPath
from apptell.service.work import ENDED
from apptell.testing import START_NS, conversation
from apptell.verdicts import Evidence
from tests.packets.test_decode import batch_of

SECOND = 10**9
PHONE, SERVER = ("10.0.0.2", 40000), ("192.0.2.7", 443)


class Source:
    """Blocks of packets, then silence while the time goes on by 50 ms."""

    name, is_lossless = "wire", True

    def __init__(self, packets, silent_ns, *more, is_live=True):
        self.is_live = is_live
        self._blocks = [packets, *more]
        self._end_ns = self._blocks[-1][-1][0] + silent_ns
        self._now_ns = 0

    def batches(self):
        for block in self._blocks:
            batch = batch_of([frame for _, frame in block])
            batch.time_ns[:] = [time_ns for time_ns, _ in block]
            self._now_ns = block[-1][0]
            yield batch
        while self._now_ns < self._end_ns:
            self._now_ns += SECOND // 20
            yield None

    def now_ns(self):
        return self._now_ns


class Kept:
    """A queue that keeps what it gets, with the time."""

    def __init__(self):
        self.got, self.source = [], None

    def put(self, batches):
        now_ns = self.source.now_ns()
        self.got += [
            (kind, flow.end_reason, now_ns) for flows, kind, _ in batches for flow in flows
        ]


def test_a_closed_connection_is_handed_out_a_second_later_while_nothing_else_arrives():
    packets = conversation(PHONE, SERVER, [(True, b"ask"), (False, b"answer")], start_ns=START_NS)
    work = Kept()
    work.source = Source(packets, 3 * SECOND)
    PacketPath(work.source, FlowOptions(), None, work).run(threading.Event())
    ((kind, reason, at_ns),) = work.got
    assert (kind, reason) == (ENDED, "closed")
    assert SECOND < at_ns - packets[-1][0] <= SECOND + SECOND // 5


@pytest.mark.parametrize("is_live", [True, False])
def test_ended_flows_wait_for_others_only_on_an_interface(is_live):
    said = [(True, b"ask"), (False, b"answer")]
    packets = conversation(PHONE, SERVER, said, start_ns=START_NS, gap_ns=1000, close=False)
    end_ns = START_NS + SECOND // 50
    (_, syn), *_ = conversation(PHONE, SERVER, [], start_ns=end_ns)
    again = (end_ns, syn[:38] + b"\x77" + syn[39:])  # with another sequence number
    work = Kept()
    work.source = Source(packets, SECOND // 5, [again], is_live=is_live)
    evidence = Evidence(Catalogue(Tables()))
    PacketPath(work.source, FlowOptions(), None, work, evidence=evidence).run(threading.Event())
    kind, reason, at_ns = work.got[0]
    assert (kind, reason) == (ENDED, "handshake")
    assert (at_ns > end_ns) is is_live
    assert at_ns - end_ns <= SECOND // 5
