"""Adds later views of labelled connections, with the same labels.

A flow that is named at its beginning teaches a model only beginnings. A late view is the same connection as a
capture would have seen it that began in mid-session: its payload from some later packet on. It is a separate
row, marked by ``part_of``, and not a further flow: it has the ``connection_id`` of its connection, so that
every split keeps both on one side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from apptell.flows.schema import LABELS, FlowBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VIEW_PACKETS: Final = 6
"""Payload packets before the first late view of a connection, enough for a handshake."""
MIN_PAYLOAD_PACKETS: Final = 5
"""Minimum number of payload packets of a late view: those of a verdict."""
_TEXTS: Final = ("label", "label_from", "label_source")
_AMBIGUOUS: Final = -1
_TIME: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd


class LateViewLabeller:
    """The connections of one capture whose labels are known: 24 bytes for each flow."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str | None, ...], int] = {}
        self._connections: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = []
        self._starts: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = []
        self._codes: list[np.ndarray[tuple[int], np.dtype[np.int32]]] = []

    def remember(self, flows: FlowBatch) -> None:
        """Takes labelled flows."""
        columns = [_texts(flows, name) for name in _TEXTS]
        codes = [
            self._texts.setdefault(texts, len(self._texts)) for texts in zip(*columns, strict=True)
        ]
        self._connections.append(np.array(flows.numpy("connection_id"), dtype=np.uint64))
        self._starts.append(_beginnings(flows))
        self._codes.append(np.array(codes, dtype=np.int32))

    def of(self, parts: Iterable[FlowBatch]) -> Iterator[FlowBatch]:
        """The late views among the parts of connections, labelled as their connections are.

        Args:
            parts: the flows of the same capture, read with ``FlowOptions.late_view_packets``.

        A connection whose flows have different labels has no views, and neither has one without a label. A part
        that begins where a flow begins is that flow.
        """
        if not self._connections:
            return
        connection = np.concatenate(self._connections)
        starts = np.unique(np.concatenate(self._starts))
        code = np.concatenate(self._codes)
        order = np.argsort(connection, kind="stable")
        connection, code = connection[order], code[order]
        first = np.flatnonzero(np.diff(connection, prepend=connection[0] + np.uint64(1)))
        app = np.array(_label_numbers(self._texts), dtype=np.int64)[code]
        low, high = np.minimum.reduceat(app, first), np.maximum.reduceat(app, first)
        known, of_known = connection[first], np.where(low == high, code[first], _AMBIGUOUS)
        texts = list(self._texts)
        for batch in parts:
            wanted = np.asarray(batch.numpy("connection_id"), dtype=np.uint64)
            at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            keep = (known[at] == wanted) & (of_known[at] != _AMBIGUOUS)
            keep &= batch.numpy("part") > 0
            keep &= batch.payload_packets >= MIN_PAYLOAD_PACKETS
            keep &= ~np.isin(_beginnings(batch), starts)
            if keep.any():
                views = batch.filter(keep)
                rows = [texts[number] for number in of_known[at[keep]].tolist()]
                columns = dict(zip(_TEXTS, zip(*rows, strict=True), strict=True))
                yield views.with_columns(
                    **{name: pa.array(values, LABELS[name]) for name, values in columns.items()},
                    part_of=views.column("connection_id"),
                )


def _beginnings(flows: FlowBatch) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """A number for each connection and time, shape (n,)."""
    start = flows.numpy("start_ns").astype(np.uint64)
    return np.asarray(flows.numpy("connection_id").astype(np.uint64) ^ (start * _TIME))


def _texts(flows: FlowBatch, name: str) -> list[str | None]:
    if name not in flows.columns:
        return [None] * len(flows)
    values: list[str | None] = flows.column(name).to_pylist()
    return values


def _label_numbers(texts: Iterable[tuple[str | None, ...]]) -> list[int]:
    """A number for each label, whatever its evidence."""
    labels: dict[str | None, int] = {}
    return [labels.setdefault(each[0], len(labels)) for each in texts]
