"""The hash table from 5-tuples to flow records (open addressing, linear probing)."""

from __future__ import annotations

import numpy as np

from apptell.flows.hashing import keyed_hash, tuple_of_flow
from apptell.flows.state import FREE
from apptell.kernels.compiled import inlined, kernel


@inlined
def find_flow(key, secret, buckets, records):
    """The bucket of a 5-tuple and the record in it; where the tuple is new, its free bucket and -1."""
    mask = np.uint64(len(buckets) - 1)
    at = keyed_hash(key, secret) & mask
    record = np.int64(-1)
    low_port = np.uint16(key.ports >> np.uint64(32))
    high_port = np.uint16((key.ports >> np.uint64(8)) & np.uint64(0xFFFF))
    protocol, version = np.uint8(key.ports & np.uint64(0xFF)), np.uint8(key.version)
    while True:
        candidate = np.int64(buckets[np.int64(at)])
        if candidate < 0:
            break
        flow = records[candidate]
        if (
            flow.low_low == key.low_low
            and flow.high_low == key.high_low
            and flow.low_port == low_port
            and flow.high_port == high_port
            and flow.low_high == key.low_high
            and flow.high_high == key.high_high
            and flow.protocol == protocol
            and flow.ip_version == version
        ):
            record = candidate
            break
        at = (at + np.uint64(1)) & mask
    return np.int64(at), record


@inlined
def unlink(record, secret, records, buckets, counters):
    """Takes a record out of the hash table and closes the gap that it leaves."""
    mask = np.int64(len(buckets) - 1)
    hole = np.int64(records[record].bucket)
    at = hole
    while True:
        at = (at + 1) & mask
        other = buckets[at]
        if other < 0:
            break
        home = np.int64(keyed_hash(tuple_of_flow(records[other]), secret) & np.uint64(mask))
        # may it move to the hole? yes unless its home lies between hole and where it is
        if (at - home) & mask >= (at - hole) & mask:
            buckets[hole] = other
            records[other].bucket = hole
            hole = at
    buckets[hole] = -1
    records[record].bucket = -1
    counters.n_occupied -= 1


@kernel
def rebuild_buckets(memory):
    """Fills a new, larger hash table from the records that are active or dormant."""
    records, buckets = memory.records, memory.buckets
    mask = np.uint64(len(buckets) - 1)
    for record in range(memory.counters.n_records):
        flow = records[record]
        if flow.bucket < 0 or flow.state == FREE:
            continue
        at = keyed_hash(tuple_of_flow(flow), memory.secret) & mask
        while buckets[np.int64(at)] >= 0:
            at = (at + np.uint64(1)) & mask
        buckets[np.int64(at)] = record
        flow.bucket = np.int32(at)
