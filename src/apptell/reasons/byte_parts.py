"""Divides the bytes that a model on bytes reads into parts: protocol fields, and ranges of long ones."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from apptell.encoding.image import IMAGE_SIDE, PACKET_BYTES
from apptell.encoding.payload import PAYLOAD_BYTES
from apptell.encoding.token_sink import ByteSpan
from apptell.flows.schema import DECISION_SEGMENTS
from apptell.reasons.explanation import SegmentBytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.encoding.token_sink import TokenSink
    from apptell.flows.schema import FlowBatch

RANGE_BYTES: Final = 16
"""Bytes of a part at most."""
OTHER_BYTES: Final = "payload"
"""The name of bytes that are in no field."""


class BytePart(NamedTuple):
    """Some bytes that are taken away together."""

    name: str
    span: ByteSpan
    places: NDArray[np.int64]
    """Where they stand in the flattened input."""


def segments_of(
    flows: FlowBatch, sink: TokenSink, n: int = DECISION_SEGMENTS
) -> list[SegmentBytes]:
    """The first n payload packets of one flow with their fields, the innermost field at each byte."""
    columns = flows.segments()
    found = []
    for row in range(min(n, int(columns.first[1] - columns.first[0]))):
        data = columns.data[columns.start[row] : columns.start[row + 1]].tobytes()
        owner = np.full(len(data), -1, dtype=np.int64)
        size = np.full(len(data), len(data) + 1, dtype=np.int64)
        for number, (_, span) in enumerate(sink.fields):
            if span.segment == row:
                part = slice(span.start, span.stop)
                inner = size[part] >= span.stop - span.start
                owner[part][inner] = number
                size[part][inner] = span.stop - span.start
        edges = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(data)]
        fields = tuple(
            (a, b, OTHER_BYTES if owner[a] < 0 else sink.fields[owner[a]].name)
            for a, b in itertools.pairwise(edges)
            if b > a
        )
        found.append(
            SegmentBytes(bool(columns.to_server[row]), int(columns.length[row]), data, fields)
        )
    return found


def byte_parts(segments: list[SegmentBytes], inputs: str) -> list[BytePart]:
    """The parts of the bytes that the inputs ``image`` or ``payload`` show, each byte in one part."""
    parts, before = [], 0
    for number, segment in enumerate(segments[:DECISION_SEGMENTS]):
        if inputs == "image":
            begin, room = number * PACKET_BYTES, PACKET_BYTES
        else:
            begin, room = before, PAYLOAD_BYTES - before
            before += min(len(segment.data), max(room, 0))
        for start, stop, name in segment.fields:
            for at in range(start, min(stop, room), RANGE_BYTES):
                end = min(at + RANGE_BYTES, stop, room)
                places = np.arange(begin + at, begin + end)
                parts.append(BytePart(name, ByteSpan(number, at, end), places))
    return parts


def as_picture(parts: list[BytePart], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of parts, each shared by its bytes, as pixels of the paper's image, shape (87, 87)."""
    pixels = np.zeros(IMAGE_SIDE * IMAGE_SIDE)
    for part, value in zip(parts, values, strict=True):
        pixels[part.places] = value / max(len(part.places), 1)
    return pixels.reshape(IMAGE_SIDE, IMAGE_SIDE)
