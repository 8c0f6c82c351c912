"""Reads the state of each flow after one, two, ... payload packets, before its verdict is due."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apptell.capture import open_capture
from apptell.flows.assembly import Assembly
from apptell.flows.options import FlowOptions
from apptell.flows.schema import FlowBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apptell.capture import PacketBatch


def read_early(
    source: Any,
    options: FlowOptions | None = None,
    add_names: Callable[[FlowBatch], FlowBatch] | None = None,
) -> tuple[dict[int, FlowBatch], FlowBatch]:
    """Reads each flow as it was after each payload packet before its verdict was due, and at its end.

    Packets are added one by one, as a sensor that never lags would.

    Args:
        source: what ``open_capture`` takes.
        options: how packets become flows.
        add_names: fills the columns of the group *names*.

    Returns:
        Flows after n payload packets by n, from 1 on; and all flows when they had ended. A flow has the same
        ``connection_id`` and ``part`` in each.

    Raises:
        CaptureError: the capture is damaged.
    """
    used = replace(options or FlowOptions(), lists_early=True, lists_decided=True)
    assembly = Assembly(used, add_names=add_names)
    table = assembly.table
    young: dict[int, list[FlowBatch]] = {n: [] for n in range(1, used.decision_packets)}
    ended: list[FlowBatch] = []
    with open_capture(source) as packets:
        for one in _one_by_one(packets):
            ended += assembly.add(one, packets.name)
            for flows in table.take_early():
                for n in set(flows.payload_packets.tolist()):
                    young[n].append(flows.filter(flows.payload_packets == n))
            list(table.take_decided())
    ended += table.finish()
    return {n: FlowBatch.concat(batches) for n, batches in young.items()}, FlowBatch.concat(ended)


def _one_by_one(packets: Any) -> Iterator[PacketBatch]:
    for batch in packets:
        for row in range(len(batch)):
            yield batch.slice(row, row + 1)
