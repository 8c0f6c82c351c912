"""Loads every compiled kernel of the packet path and decides a flow, before packets arrive."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.capture.columns import Columns
from apptell.capture.live import read_block
from apptell.flows import Assembly
from apptell.flows.schema import DECISION_SEGMENTS
from apptell.names import add_names
from apptell.names.dns import read_messages
from apptell.verdicts import identify_flows
from apptell.verdicts.context import weigh_one

if TYPE_CHECKING:
    from apptell.flows import FlowOptions
    from apptell.models import Model
    from apptell.verdicts import Evidence

_FRAMES: Final = {
    6: bytes.fromhex(
        "020000000002" "020000000001" "0800"
        "4500002900004000400600000a000002c0000207"  # 10.0.0.2 to 192.0.2.7, 41 bytes
        "9c4001bb00000001000000015018ffff00000000" "16"
    ),
    17: bytes.fromhex(
        "020000000002" "020000000001" "0800"
        "4500003000004000401100000a000002c0000207"  # 48 bytes
        "9c4001bb001c0000" + "16" * 20
    ),
}  # fmt: skip
"""By IP protocol: one byte of payload over TCP, 20 over UDP, port 40000 to 443."""


def warm_up(options: FlowOptions, model: Model | None, evidence: Evidence | None = None) -> None:
    """Runs the packets of one verdict through decoder, flow table and model; first runs take seconds."""
    n = DECISION_SEGMENTS if model is None else model.decision_packets
    frames = [
        _FRAMES[protocol]
        for protocol in options.transports
        if protocol in _FRAMES
        for _ in range(n)
    ]
    sizes = np.array([len(frame) for frame in frames])
    columns = Columns(len(frames))
    columns.set_constants(1)
    columns.offset[:] = np.cumsum(sizes) - sizes
    columns.captured[:] = columns.wire[:] = sizes
    columns.time_ns[:] = np.arange(len(frames))
    batch = columns.batch(np.frombuffer(b"".join(frames), dtype=np.uint8), len(frames), [])
    assembly = Assembly(
        replace(options, mode="paper", max_flows=64, decision_packets=n),
        add_names=add_names,
    )
    ended = list(assembly.add(batch, "warm-up"))
    table = assembly.table
    for _ in identify_flows([*table.take_decided(), *ended], model, evidence=evidence):
        pass
    _read_no_names()
    _read_no_ring()
    weigh_one(np.ones((2, 2), dtype=np.float32), 0, np.ones(2), 1.0, 1)
    list(table.advance(1))
    list(table.finish())


def _read_no_names() -> None:
    """Reads an empty DNS message from memory that may be written to and from memory that may not."""
    data = np.zeros(1, dtype=np.uint8)
    fixed = data.copy()
    fixed.flags.writeable = False
    nothing = np.zeros(1, dtype=np.int64)
    for each in (data, fixed):
        read_messages(nothing, nothing, each, np.zeros((1, 3), dtype=np.uint64), nothing)


def _read_no_ring() -> None:
    """Reads a block without packets, as an interface gives it."""
    ring = np.zeros(4096, dtype=np.uint8)
    columns = Columns(1)
    read_block(
        ring,
        ring.view(np.uint16),
        ring.view(np.uint32),
        0,
        len(ring),
        False,
        columns.offset,
        columns.captured,
        columns.wire,
        columns.time_ns,
        columns.direction,
        columns.totals,
    )


def settle() -> None:
    """Excludes all existing objects from garbage collection permanently.

    Call it once when a long-running program has loaded what it needs: traversing the million objects of its
    libraries stops every thread for more than a tenth of a second each time.
    """
    gc.collect()
    gc.freeze()
