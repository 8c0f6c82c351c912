"""Flows in, the records that ``live`` gives of them once they have ended out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apptell.models import load_model
from apptell.service.decisions import ended_records
from apptell.verdicts import flows_and_verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from apptell.flows import FlowBatch
    from apptell.verdicts import Evidence


def ended(
    flows: FlowBatch, threshold: float | None = None, evidence: Evidence | None = None
) -> Iterator[pa.RecordBatch]:
    """Verdicts of the embedded model, or of evidence in its place, then ends."""
    model = load_model() if evidence is None else None
    for part, verdicts in flows_and_verdicts([flows], model, threshold, evidence=evidence):
        yield from ended_records(part, verdicts)
