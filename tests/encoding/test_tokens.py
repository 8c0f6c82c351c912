from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from apptell.encoding import structure
from apptell.encoding.structure import N_TOKENS
from apptell.learning.make_default import SAMPLES
from apptell.names import read_flows
from apptell.names.dtls import find_dtls_hellos
from apptell.names.quic import find_initials
from apptell.testing import client_hello
from tests.encoding.crafted import CraftedFlow, Packet, batch
from tests.encoding.test_structure import conversation
from tests.encoding.token_twin import Segment, tokens_of

if TYPE_CHECKING:
    from apptell.flows import FlowBatch

CAPTURES = (
    Path(os.environ.get("APPTELL_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared"))
    / "captures"
)


def first_of(capture: Path, n: int) -> FlowBatch:
    flows = read_flows(capture).to_flows()
    return flows.take(np.arange(min(n, len(flows))))


def as_the_twin_reads(flows: FlowBatch, **options) -> list[list[int]]:
    segments = flows.segments()
    is_udp = np.asarray(flows.column("protocol").fill_null(0)) == 17
    hellos = {}
    if is_udp.any():
        quic, _ = find_initials(segments, is_udp)
        dtls = find_dtls_hellos(segments, is_udp)
        for found, is_dtls in ((quic, False), (dtls, True)):
            for at, row in enumerate(found.rows.tolist()):
                message = found.data[found.start[at] : found.start[at + 1]].tobytes()
                hellos[row] = (message, is_dtls)
    read = []
    for flow in range(len(flows)):
        rows = range(segments.first[flow], segments.first[flow + 1])
        packets = [
            Segment(
                0 if segments.to_server[row] else 1,
                segments.data[segments.start[row] : segments.start[row + 1]].tobytes(),
                int(segments.length[row]),
                int(segments.offset[row]),
            )
            for row in rows
        ]
        hello, is_dtls = hellos.get(flow, (None, False))
        read.append(
            tokens_of(packets, is_udp=bool(is_udp[flow]), hello=hello, is_dtls=is_dtls, **options)
        )
    return read


def assert_same(flows: FlowBatch, **options) -> int:
    """The kernels' tokens are the twin's; how many flows had any."""
    got = structure(flows, **options)
    for flow, (row, expected) in enumerate(
        zip(got, as_the_twin_reads(flows, **options), strict=True)
    ):
        found = row[row > 0].tolist()
        if len(found) == N_TOKENS:  # no room for more
            assert set(found) <= set(expected), flow
        else:
            assert sorted(found) == sorted(expected), flow
    return int((got[:, 0] > 0).sum())


@pytest.mark.parametrize("names", ["on", "masked", "hashed"])
def test_tokens_of_recorded_flows_are_those_of_the_plain_twin(names):
    folder = sorted(path for path in SAMPLES.iterdir() if path.is_dir())[0]
    captures = sorted(folder.glob("*.pcap.xz"))
    for capture in captures:
        flows = first_of(capture, 12)
        assert assert_same(flows, names=names) > 4, capture
        assert_same(flows, names=names, skip=1, packets=12)


def test_tokens_of_crafted_flows_are_those_of_the_plain_twin():
    """Cut, spoiled and shortened anywhere: resynchronised, in plain text, with gaps."""
    random = np.random.default_rng(3)
    flows = []
    for _ in range(150):
        flow = [[side, bytearray(data)] for side, data in conversation(int(random.integers(99)))]
        for _ in range(int(random.integers(0, 4))):
            data = flow[int(random.integers(len(flow)))][1]
            kind = random.integers(3)
            if kind == 0:
                data[int(random.integers(len(data)))] = int(random.integers(256))
            elif kind == 1 and len(data) > 1:
                del data[int(random.integers(1, len(data))) :]
            else:
                data[0:0] = random.bytes(int(random.integers(1, 40)))
        pieces = []
        most = int(random.choice([40, 300, 1400, 2900]))  # above 1,500 what is behind is not kept
        for side, data in flow:
            pieces += [
                Packet(side, bytes(data[at : at + most]), 0) for at in range(0, len(data), most)
            ]
        flows.append(CraftedFlow(pieces))
    big = bytes(random.bytes(2000))
    flows.append(CraftedFlow([Packet(True, big, 0), Packet(False, b"\x17\x03\x03\x00\x02ok", 1)]))
    flows.append(
        CraftedFlow([Packet(True, b"\0\3one\0\2go", 0), Packet(False, b"GET a.example.net x", 1)])
    )
    made = batch(flows)
    for names in ("on", "masked", "hashed"):
        assert assert_same(made, names=names, packets=8) == len(flows)
    assert assert_same(made, skip=1) > 100


def test_segments_that_came_out_of_order_give_the_tokens_of_their_stream():
    random = np.random.default_rng(5)
    flows, shuffled = [], []
    for seed in range(40):
        pieces: list[tuple[bool, bytes, int]] = []
        for side, data in conversation(seed):
            ends = [0, *sorted(random.integers(1, len(data), 3).tolist()), len(data)]
            total = sum(len(piece) for way, piece, _ in pieces if way == side)
            pieces += [
                (side, data[at:end], total + at) for at, end in itertools.pairwise(ends) if at < end
            ]
        flows.append(pieces)
        mixed = list(pieces)
        for at in range(len(mixed) - 1):  # neighbours of one side change places
            if mixed[at][0] == mixed[at + 1][0] and random.integers(2):
                mixed[at], mixed[at + 1] = mixed[at + 1], mixed[at]
        shuffled.append(mixed)
    made, other = (
        batch([CraftedFlow([Packet(*each[:2], 0) for each in flow]) for flow in some]).with_columns(
            segment_offset=[[each[2] for each in flow[:12]] for flow in some]
        )
        for some in (flows, shuffled)
    )
    assert assert_same(other, packets=12) == len(flows)
    n_same = 0
    for one, two, pieces, mixed in zip(
        structure(made, packets=12), structure(other, packets=12), flows, shuffled, strict=True
    ):
        if sorted(pieces[:12]) == sorted(mixed[:12]):
            assert set(one) == set(two)
            n_same += pieces[:12] != mixed[:12]
    assert n_same > 10


def test_a_lost_segment_parts_the_stream():
    hello = client_hello("chat.example.org")
    whole, lost = (
        batch(
            [CraftedFlow([Packet(True, hello[:40], 0), Packet(True, hello[90:], 1)])]
        ).with_columns(segment_offset=[[0, place]])
        for place in (40, 90)
    )
    assert assert_same(lost) == 1
    assert set(structure(whole)[0]) != set(structure(lost)[0])


@pytest.mark.shared
@pytest.mark.skipif(not CAPTURES.is_dir(), reason="the shared captures are absent")
def test_tokens_of_other_protocols_are_those_of_the_plain_twin():
    n = 0
    for capture in sorted((CAPTURES / "ndpi").rglob("*.pcap*"))[::6]:
        n += assert_same(first_of(capture, 10))
    assert n > 50
