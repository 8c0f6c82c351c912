"""Open and ended flows in, live records out: each flow decided once, its app remembered until it ends.

It holds no thread and reads no clock. Identification is ``verdicts.identify_flows``, as for files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from apptell.service.records import END, VERDICT, live_records
from apptell.verdicts import VerdictBatch, choose_threshold, decide, identify_flows
from apptell.verdicts.pipeline import MIN_PAYLOAD_PACKETS
from apptell.verdicts.schema import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apptell.flows import FlowBatch
    from apptell.models import Model

OVERLOADED: Final = "overloaded"
_REMEMBERED: Final = (
    "outcome",
    "app",
    "best_guess",
    "confidence",
    "runner_up",
    "runner_up_confidence",
    "threshold",
    "payload_packets_seen",
    "model",
    "revised",
)
_GUESSES: Final = ("app", "best_guess", "confidence", "runner_up", "runner_up_confidence")
_FROZEN: Final = (
    "packets_to_server",
    "packets_to_client",
    "bytes_to_server",
    "bytes_to_client",
)


class Decisions:
    """Decides flows and remembers what it decided while they are open.

    Args:
        model: decides; may be replaced at any time by setting ``model``.
        threshold: smallest accepted confidence; the model's own, else 0.85, unless given.
    """

    def __init__(self, model: Model, threshold: float | None = None) -> None:
        choose_threshold(threshold, model)
        self.model = model
        self._threshold = threshold
        self._remembered: dict[tuple[int, int], tuple[Any, ...]] = {}

    @property
    def n_open(self) -> int:
        """Flows that were decided and have not ended."""
        return len(self._remembered)

    def young(self, flows: FlowBatch, *, overloaded: bool = False) -> Iterator[pa.RecordBatch]:
        """Records of open flows whose verdict is due.

        Args:
            flows: as ``FlowTable.take_decided`` gives them.
            overloaded: there is no time to identify them.
        """
        for verdicts in self._verdicts(_as_decided(flows), overloaded=overloaded):
            self._remember(verdicts)
            yield live_records(verdicts, VERDICT)

    def ended(self, flows: FlowBatch, *, overloaded: bool = False) -> Iterator[pa.RecordBatch]:
        """Records of flows that ended: verdicts on those that had none, and the end of all.

        Flows with fewer than two payload packets are passed over, as they are in files.
        """
        enough = flows.payload_packets >= MIN_PAYLOAD_PACKETS
        if not enough.all():
            flows = flows.filter(enough)
        keys = _keys(flows)
        unknown = np.array([key not in self._remembered for key in keys], dtype=bool)
        if unknown.any():
            yield from self.young(flows.filter(unknown), overloaded=overloaded)
        if len(flows):
            known = [self._remembered.pop(key) for key in keys]
            yield live_records(_with_verdicts(flows, known), END, flows.column("end_reason"))

    def _verdicts(self, flows: FlowBatch, *, overloaded: bool) -> Iterator[VerdictBatch]:
        model = self.model
        if not overloaded:
            yield from identify_flows([flows], model, self._threshold)
        elif len(flows):
            yield _not_identified(flows, model, self._threshold)

    def _remember(self, verdicts: VerdictBatch) -> None:
        keys = zip(
            verdicts.column("connection_id").to_pylist(),
            verdicts.column("part").to_pylist(),
            strict=True,
        )
        values = zip(*(verdicts.column(name).to_pylist() for name in _REMEMBERED), strict=True)
        self._remembered.update(zip(keys, values, strict=True))


def _keys(flows: FlowBatch) -> list[tuple[int, int]]:
    ids, parts = flows.column("connection_id").to_pylist(), flows.column("part").to_pylist()
    return list(zip(ids, parts, strict=True))


def _as_decided(flows: FlowBatch) -> FlowBatch:
    """The flows with the totals that their verdict rests on, so that a verdict is the same at any time."""
    totals = {name: flows.column(f"decided_{name}") for name in _FROZEN}
    return flows.with_columns(end_ns=flows.column("decided_ns"), **totals)


def _with_verdicts(flows: FlowBatch, known: list[tuple[Any, ...]]) -> VerdictBatch:
    there = set(flows.columns)
    values = dict(zip(_REMEMBERED, zip(*known, strict=True), strict=True))
    columns = []
    for field in SCHEMA:
        if field.name in values:
            columns.append(pa.array(values[field.name], field.type))
        elif field.name in there:
            columns.append(flows.column(field.name))
        else:
            columns.append(pa.nulls(len(flows), field.type))
    return VerdictBatch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))


def _not_identified(flows: FlowBatch, model: Model, threshold: float | None) -> VerdictBatch:
    """Verdicts that say that there was no time."""
    n, limit = len(flows), choose_threshold(threshold, model)
    nothing = np.zeros((n, len(model.apps)), dtype=np.float32)
    batch = decide(flows, nothing, model.apps, limit, f"{model.name}@{model.hash}").to_arrow()
    for name in _GUESSES:
        at = SCHEMA.get_field_index(name)
        batch = batch.set_column(at, SCHEMA.field(at), pa.nulls(n, SCHEMA.field(at).type))
    at = SCHEMA.get_field_index("outcome")
    batch = batch.set_column(at, SCHEMA.field(at), pa.array([OVERLOADED] * n, pa.string()))
    return VerdictBatch(batch)
