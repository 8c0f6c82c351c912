"""The stages of reading flows, as generators: packets to blocks of headers, to flows, to flows with names.

Each is correct if its thread is not that of the others: a block is used by the stage that takes it until it
requests the next, and nothing else is shared but counters, which are copied into the steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import CaptureError
from apptell.flows.parts import ConnectionNames

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from apptell.capture import CaptureReader, CaptureStats, PacketBatch
    from apptell.capture.batch import Owner
    from apptell.flows.assembly import Assembly
    from apptell.flows.flow_table import FlowTable
    from apptell.flows.options import FlowOptions
    from apptell.flows.schema import FlowBatch
    from apptell.packets import HeaderBatch, Tally

HAND_OUT_S: Final = 1.0
"""While packets of a stream arrive, finished flows are collected for this long before they are returned."""
HAND_OUT_PACKETS: Final = 1 << 18
"""Packets of files at rest for which they are collected: a time would change the order of flows."""
LOOK_FLOWS: Final = 1 << 18
"""Finished flows after which an observer is shown the open ones."""


@dataclass(frozen=True, slots=True)
class StageCounts:
    """Counters after some packets."""

    capture: CaptureStats
    tally: Tally
    n_reassembled: int
    n_flow_packets: int = 0
    n_not_asked: int = 0
    n_after_close: int = 0
    n_evicted: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """Decoded packets, valid until the next block is requested."""

    headers: HeaderBatch
    capture: str
    """Name of the capture they come from."""
    owners: Sequence[Owner]
    links: NDArray[np.int32]
    answers: pa.RecordBatch | None
    """The DNS answers in them; None if they were not requested."""
    told: Any
    """What a watcher read in them; None for nothing."""
    counts: StageCounts


@dataclass(frozen=True, slots=True)
class End:
    """The end of the packets."""

    counts: StageCounts
    damage: CaptureError | None


@dataclass(frozen=True, slots=True)
class Answers:
    """DNS answers of the packets before the next steps."""

    answers: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class Told:
    """What a watcher read in the packets before the next steps."""

    told: Any


@dataclass(frozen=True, slots=True)
class Ended:
    """Finished flows."""

    flows: FlowBatch
    counts: StageCounts


@dataclass(frozen=True, slots=True)
class Waiting:
    """Finished flows that come as ``Ended`` later; only their names matter."""

    flows: FlowBatch


@dataclass(frozen=True, slots=True)
class Opened:
    """Open flows whose verdict has become due; each comes once."""

    flows: FlowBatch
    until: int
    """All that were due at this place in the order of packets came before."""


@dataclass(frozen=True, slots=True)
class Looked:
    """No more open flows that were due at this place in the order of packets."""

    until: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The last step."""

    counts: StageCounts
    damage: CaptureError | None


Step = Answers | Told | Ended | Waiting | Opened | Looked | Finished


def decoded(
    reader: CaptureReader,
    assembly: Assembly,
    annotate: Callable[[PacketBatch], PacketBatch] | None,
    read_answers: Callable[[HeaderBatch], pa.RecordBatch] | None,
    read_told: Callable[[HeaderBatch], Any] | None,
) -> Generator[Block | End, None, None]:
    """Reads and decodes packets.

    Args:
        reader: where they come from.
        assembly: decodes them and puts fragments together; its table is not touched.
        annotate: called with the packets before they are decoded.
        read_answers: finds DNS answers in them.
        read_told: reads for a watcher.
    """
    damage: CaptureError | None = None
    try:
        with reader:
            for batch in reader:
                packets = annotate(batch) if annotate else batch
                headers = assembly.decode(packets)
                yield Block(
                    headers,
                    reader.current_name,
                    packets.owners,
                    assembly.links(packets, headers),
                    None if read_answers is None else read_answers(headers),
                    None if read_told is None else read_told(headers),
                    _counts(reader, assembly),
                )
    except CaptureError as error:
        damage = error
    yield End(_counts(reader, assembly), damage)


def _counts(reader: CaptureReader, assembly: Assembly) -> StageCounts:
    stats = reader.stats
    capture = replace(stats, names=stats.names.copy(), formats=stats.formats.copy())
    return StageCounts(capture, assembly.tally.copy(), assembly.n_reassembled)


def assembled(
    blocks: Iterable[Block | End],
    table: FlowTable,
    hand_out_s: float | None,
    *,
    shows_open: bool,
) -> Generator[Step, None, None]:
    """Makes flows of decoded packets, without names.

    Args:
        blocks: the packets.
        table: the table of open flows; it adds no names.
        hand_out_s: how long finished flows are collected while packets arrive; None for files at rest.
        shows_open: whether open flows are shown: immediately if the source is growing, otherwise after many.
    """
    due_s, n_packets, n_ended, looked_at, looked_until = 0.0, 0, 0, 0, 0

    def ended(flows: FlowBatch, counts: StageCounts) -> Ended:
        nonlocal n_ended
        n_ended += len(flows)
        return Ended(flows, _with_table(counts, table))

    for block in blocks:
        if isinstance(block, End):
            for flows in table.finish():
                yield ended(flows, block.counts)
            yield Finished(_with_table(block.counts, table), block.damage)
            return
        if block.told:
            yield Told(block.told)
        if block.answers is not None and len(block.answers):
            yield Answers(block.answers)
        for flows in table.add(block.headers, block.capture, block.owners, block.links):
            yield ended(flows, block.counts)
        n_packets += len(block.headers)
        if not table.n_ready:
            continue
        if hand_out_s is None:
            if n_packets < HAND_OUT_PACKETS:
                continue
            n_packets = 0
        elif time.monotonic() < due_s:
            continue
        if shows_open and (hand_out_s == 0 or n_ended - looked_at >= LOOK_FLOWS):
            looked_at = n_ended
            waiting = table.waiting()
            if waiting is not None:
                yield Waiting(waiting)
            for flows in table.take_decided():
                yield Opened(flows, looked_until)
            looked_until = table.place_ns
            yield Looked(looked_until)
        for flows in table.take():
            yield ended(flows, block.counts)
        due_s = time.monotonic() + (hand_out_s or 0)


def _with_table(counts: StageCounts, table: FlowTable) -> StageCounts:
    return replace(
        counts,
        n_flow_packets=table.n_flow_packets,
        n_not_asked=table.n_not_asked,
        n_after_close=table.n_after_close,
        n_evicted=table.n_evicted,
    )


def named(
    steps: Iterable[Step],
    add_names: Callable[[FlowBatch], FlowBatch] | None,
    options: FlowOptions,
) -> Generator[Step, None, None]:
    """Adds the columns of the group *names* to flows.

    Args:
        steps: flows without names.
        add_names: reads the names that each flow shows; later parts of a connection get those of earlier ones.
        options: whether names were requested.
    """
    if add_names is None or "names" not in options.groups:
        yield from (step for step in steps if not isinstance(step, Waiting))
        return
    connections = ConnectionNames()
    for step in steps:
        match step:
            case Ended(flows, _):
                yield replace(step, flows=connections.learn_and_fill(add_names(flows)))
            case Waiting(flows):
                connections.learn_and_fill(add_names(flows))
            case Opened(flows, _):
                yield replace(step, flows=connections.fill(add_names(flows)))
            case _:
                yield step
