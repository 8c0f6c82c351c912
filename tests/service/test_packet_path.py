"""When a capturing thread hands out the flows of its source."""

import threading

from apptell.flows import FlowOptions
from apptell.service.packet_path import PacketPath
from apptell.service.work import ENDED
from apptell.testing import START_NS, conversation
from tests.packets.test_decode import batch_of

SECOND = 10**9
PHONE, SERVER = ("10.0.0.2", 40000), ("192.0.2.7", 443)


class Source:
    """One block of packets, then silence while the time goes on by 50 ms."""

    name, is_live, is_lossless = "wire", True, True

    def __init__(self, packets, silent_ns):
        self._packets = packets
        self._last_ns = packets[-1][0]
        self._end_ns = self._last_ns + silent_ns
        self._now_ns = self._last_ns

    def batches(self):
        batch = batch_of([frame for _, frame in self._packets])
        batch.time_ns[:] = [time_ns for time_ns, _ in self._packets]
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
