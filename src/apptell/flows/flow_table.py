"""The flow table: assembles decoded packets into flows, without reading a file or a clock.

Time comes from the packets, or from ``advance`` when none arrive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.flows import hash_table, kernel, state, turnover
from apptell.flows.handout import hand_out
from apptell.flows.options import FlowOptions
from apptell.flows.parts import ConnectionNames
from apptell.flows.slabs import Slabs
from apptell.packets.headers import TCP, UDP
from apptell.packets.links import LinkReader
from apptell.packets.order import PacketOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from apptell.capture.batch import Owner
    from apptell.flows.schema import FlowBatch
    from apptell.packets.headers import HeaderBatch

_SECOND: Final = 1_000_000_000
SWEEP_NS: Final = 20 * _SECOND
"""How often at least silent flows are looked for, by whoever asks for the order of flows."""
_UNCHANGED: Final = frozenset({"core", "link"})
"""Groups of flows whose names and segments their reader already has."""
NO_LINKS: Final = np.zeros(0, dtype=np.int32)
"""The links of packets where they were not requested."""

OPEN_TOTALS: Final = np.dtype(
    [
        ("connection_id", np.uint64),
        ("part", np.int32),
        ("packets", np.int64),
        ("bytes", np.int64),
    ]
)
"""A row of ``FlowTable.open_totals``."""


class FlowTable:
    """The table of open flows.

    Args:
        options: how packets become flows.
        add_names: fills the columns of the group *names* (``apptell.names.add_names``); without it they are
            null, and whoever takes the flows may fill them (``parts.ConnectionNames``).
    """

    def __init__(
        self,
        options: FlowOptions | None = None,
        add_names: Callable[[FlowBatch], FlowBatch] | None = None,
    ) -> None:
        self.options = options or FlowOptions()
        self._add_names = add_names
        self._memory = state.FlowMemory(
            self.options.max_flows,
            self.options.segment_memory,
            lists_decided=self.options.lists_decided,
            lists_early=self.options.lists_early,
        )
        self._memory.local = self.options.local
        self._idle_ns = int(self.options.idle_timeout_s * _SECOND)
        self._active_ns = int((self.options.active_timeout_s or 0) * _SECOND)
        self._groups = frozenset(self.options.groups) | {"core"}
        self._has_names = "names" in self._groups
        if self._has_names:
            self._groups |= {"segments"}
        self._known_after_ns = (
            self._idle_ns + state.REORDERING_NS + SWEEP_NS if self.options.lists_order else None
        )
        self._order = PacketOrder()
        self._connection_names = ConnectionNames()
        self._swept_packets = 0
        self._slabs = Slabs()
        self.links = LinkReader() if "link" in self._groups else None
        """Numbers the links of packets, if the group *link* is requested."""
        self._captures: list[str] = []
        self._owners: Sequence[Owner] = ()

    def release(self) -> None:
        """Gives the memory back; the counters stay, and nothing may be added any more."""
        self._memory.release()

    @property
    def n_ready(self) -> int:
        """Finished flows that wait to be taken."""
        return int(self._memory.counters["n_ready"])

    @property
    def n_evicted(self) -> int:
        """Flows ended early because the table was full."""
        return int(self._memory.counters["n_evicted"])

    @property
    def n_flow_packets(self) -> int:
        """Packets that became part of a flow."""
        return int(self._memory.counters["n_flow_packets"])

    @property
    def n_not_asked(self) -> int:
        """TCP or UDP packets of a transport that was not selected."""
        return int(self._memory.counters["n_not_asked"])

    @property
    def n_after_close(self) -> int:
        """Packets of closed connections that came after their flow's end and brought nothing new."""
        return int(self._memory.counters["n_after_close"])

    @property
    def n_active(self) -> int:
        """Open flows, including those without payload."""
        counters = self._memory.counters
        return int(counters["n_occupied"] - counters["n_dormant"])

    @property
    def place_ns(self) -> int:
        """Place of the newest packet in the order of packets (``packets.order``)."""
        return self._order.last_ns

    @property
    def clock_ns(self) -> int:
        """Time of the newest packet, ns since 1970 UTC; 0 before the first."""
        return int(self._memory.counters["clock_ns"])

    def add(
        self,
        headers: HeaderBatch,
        capture: str = "",
        owners: Sequence[Owner] = (),
        links: NDArray[np.int32] = NO_LINKS,
    ) -> Iterator[FlowBatch]:
        """Adds decoded packets; yields finished flows when many are waiting or space is needed.

        Args:
            headers: packets in capture order.
            capture: name of the capture they come from.
            owners: the owners that the packets' owner numbers refer to; the same growing list for a whole
                capture.
            links: the numbers of the packets' links in ``self.links``; none if these were not requested.
        """
        memory, options = self._memory, self.options
        rules = self._rules()
        if owners:
            self._owners = owners
        if not self._captures or self._captures[-1] != capture:
            self._captures.append(capture)
        row = 0
        if options.lists_decided or options.lists_early:
            memory.list_more(len(headers.rows))
        packets = kernel.Packets(
            headers.rows,
            self._order(headers.rows["time_ns"]),
            headers.buffer,
            headers.whole,
            len(self._captures) - 1,
            links,
        )
        while True:
            row, full = kernel.add_packets(packets, row, rules, memory.arrays())
            if full == kernel.DONE:
                break
            if full == kernel.FULL_BUCKETS:
                memory.grow_buckets()
                hash_table.rebuild_buckets(memory.arrays())
            else:
                yield from self._make_room(full)
        # A sweep examines every record. It is done after as many packets, so that its cost per packet is one
        # record.
        if (
            self.clock_ns - int(memory.counters["swept_ns"]) > _SECOND
            and self.n_flow_packets - self._swept_packets >= memory.counters["n_records"]
        ):
            self._sweep(self.clock_ns, self._idle_ns + state.REORDERING_NS)
        if self.n_ready >= 2048:
            yield from self.take()

    def _rules(self) -> kernel.FlowRules:
        """The options as the kernel takes them."""
        options = self.options
        return kernel.FlowRules(
            options.mode == "clean",
            TCP in options.transports,
            UDP in options.transports,
            self._idle_ns,
            self._active_ns,
            options.late_view_packets or 0,
            options.segments,
            options.decision_packets,
        )

    def advance(self, now_ns: int) -> Iterator[FlowBatch]:
        """Ends the flows that were silent for the timeout at ``now_ns``; for when no packet arrives.

        It looks at every open flow, and does what ``end_closed`` does.
        """
        turnover.end_closed_by(now_ns, self._memory.arrays())
        self._sweep(now_ns, self._idle_ns)
        yield from self.take()

    def end_silent(self) -> None:
        """Ends the flows that were silent for the timeout by the packets' time, unless that was done lately."""
        if self.clock_ns - int(self._memory.counters["swept_ns"]) > SWEEP_NS // 2:
            self._sweep(self.clock_ns, self._idle_ns + state.REORDERING_NS)

    def end_closed(self, now_ns: int) -> Iterator[FlowBatch]:
        """Ends the flows whose connections were closed a second before ``now_ns``; examines only these."""
        turnover.end_closed_by(now_ns, self._memory.arrays())
        yield from self.take()

    def finish(self, *, is_shutdown: bool = False) -> Iterator[FlowBatch]:
        """Ends all flows: the capture is over. Those that were silent by then end as idle.

        Args:
            is_shutdown: whether a sensor was asked to end while packets still came.
        """
        memory = self._memory
        self._sweep(self.clock_ns, self._idle_ns + state.REORDERING_NS)
        reason = turnover.BY_SHUTDOWN if is_shutdown else turnover.BY_CAPTURE
        turnover.end_all(reason, memory.arrays())
        yield from self.take()

    def take(self, batch_flows: int = 2048) -> Iterator[FlowBatch]:
        """Finished flows, in batches.

        With the option ``reports_once``, flows that ``take_decided`` gave with a whole TLS hello come in
        separate batches with only the group *core*: the caller already has what does not change.
        """
        memory = self._memory
        while self.n_ready:
            n = min(self.n_ready, batch_flows)
            is_reported = memory.records["decided"][memory.ready[:n]] == state.REPORTED
            batches = [
                self._hand_out(memory.ready[:n][chosen], groups, has_ended=True)
                for chosen, groups in (
                    (~is_reported, self._groups),
                    (is_reported, _UNCHANGED & self._groups),
                )
                if chosen.any()
            ]
            turnover.release(n, memory.arrays())
            yield from batches

    def _hand_out(
        self, listed: NDArray[np.int32], groups: frozenset[str], *, has_ended: bool
    ) -> FlowBatch:
        """The columns of some records' flows; a later part has its connection's names, as far as known."""
        memory = self._memory
        known_after_ns = self._known_after_ns if "names" in groups else None
        batch = hand_out(
            memory,
            listed,
            self._captures,
            self._owners,
            groups,
            self._slabs,
            known_after_ns,
            self.links,
        )
        if self._add_names is None or "names" not in groups:
            return batch
        batch = self._add_names(batch)
        if has_ended:
            return self._connection_names.learn_and_fill(batch)
        return self._connection_names.fill(batch)

    def _learn_waiting(self) -> None:
        """Remembers the names of ended flows that wait to be taken, where parts of theirs have begun."""
        if self._add_names is not None and self._has_names:
            self.waiting()

    def waiting(self) -> FlowBatch | None:
        """Ended flows that wait to be taken, where parts of theirs have begun lately; None for none.

        Open flows that are such parts have their names. They are returned again when they are taken.
        """
        memory = self._memory
        if not memory.counters["n_parts"]:
            return None
        memory.counters["n_parts"] = 0
        waiting = memory.ready[: self.n_ready]
        waiting = waiting[memory.records["bucket"][waiting] < 0]  # others took their places
        if not len(waiting):
            return None
        return self._hand_out(waiting, self._groups, has_ended=True)

    def take_decided(self, batch_flows: int = 2048) -> Iterator[FlowBatch]:
        """Flows whose verdict has become due since the last call, each once, in that order.

        Flows that have ended since then are included, and are returned again as finished ones, unless they
        were already. Needs the option ``lists_decided``. The columns that a verdict is based on
        (``decided_*`` and the first payload packets) do not change until the flow ends; totals are those so
        far.
        """
        memory = self._memory
        self._learn_waiting()
        n = turnover.open_ones(memory.arrays())
        for start in range(0, n, batch_flows):
            listed = memory.young[start : min(start + batch_flows, n)]
            batch = self._hand_out(listed, self._groups, has_ended=False)
            if self.options.reports_once and self._has_names:
                is_whole = batch.is_there("ja4")
                self._connection_names.learn(batch, is_whole)
                memory.records["decided"][listed[is_whole]] = state.REPORTED
            yield batch

    def take_early(self, batch_flows: int = 2048) -> Iterator[FlowBatch]:
        """Open flows with one to four payload packets that had one since the last call, each once.

        Needs the option ``lists_early``. All columns hold what is known so far.
        """
        memory = self._memory
        if not len(memory.early):
            return
        self._learn_waiting()
        n = turnover.candidates(memory.arrays())
        for start in range(0, n, batch_flows):
            listed = memory.early[start : min(start + batch_flows, n)]
            yield self._hand_out(listed, self._groups, has_ended=False)

    def open_totals(self) -> NDArray[Any]:
        """Packets and bytes of the decided open flows so far, both directions together; a copy, shape (n,).

        Its fields are ``connection_id``, ``part``, ``packets`` and ``bytes``.
        """
        memory = self._memory
        records = memory.records[: int(memory.counters["n_records"])]
        records = records[
            (records["state"] == state.ACTIVE) & (records["decided"] != state.UNDECIDED)
        ]
        found = np.empty(len(records), dtype=OPEN_TOTALS)
        found["connection_id"], found["part"] = records["connection_id"], records["part"]
        found["packets"] = records["packets"].sum(axis=1)
        found["bytes"] = records["bytes"].sum(axis=1)
        return found

    def decide_after(self, seconds: float, now_ns: int, min_payload_packets: int = 2) -> None:
        """Makes a verdict due on open flows that began so long ago and have too few payload packets for one.

        Args:
            seconds: since the flow's first packet.
            now_ns: the time, ns since 1970 UTC.
            min_payload_packets: flows with fewer wait on.
        """
        memory = self._memory
        memory.list_more(int(memory.counters["n_records"]))
        turnover.decide_waiting(
            now_ns,
            int(seconds * _SECOND),
            min_payload_packets,
            memory.arrays(),
        )

    def _sweep(self, now_ns: int, idle_ns: int) -> None:
        memory = self._memory
        self._swept_packets = self.n_flow_packets
        turnover.sweep(now_ns, idle_ns, max(state.FORGET_NS, idle_ns), memory.arrays())

    def _make_room(self, full: int) -> Iterator[FlowBatch]:
        """Yields finished flows, then drops old connections, then ends old flows, until there is space."""
        memory = self._memory
        self._sweep(self.clock_ns, self._idle_ns + state.REORDERING_NS)
        had_ready = self.n_ready > 0
        yield from self.take()
        if full == kernel.FULL_ARENA and had_ready:
            return
        n = int(memory.counters["n_records"])
        states, last = memory.records["state"][:n], memory.records["last_ns"][:n]
        dormant = states == state.DORMANT
        only_dormant = full == kernel.FULL_FLOWS and bool(dormant.any())
        if full == kernel.FULL_FLOWS and int(memory.counters["n_free_records"]):
            return
        chosen = last[dormant] if only_dormant else last[states == state.ACTIVE]
        if not len(chosen):
            return
        cutoff = np.partition(chosen, len(chosen) // 16)[len(chosen) // 16]
        turnover.evict(cutoff, only_dormant, memory.arrays())
        yield from self.take()
        if not only_dormant and full == kernel.FULL_FLOWS:
            # the evicted flows' records stay as dormant connections: let those of them go too
            turnover.evict(cutoff, True, memory.arrays())
