"""Observes the flows of captures, or of records, under a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from apptell.catalogue import Catalogue
from apptell.errors import CaptureError
from apptell.flows import FlowOptions
from apptell.names import read_flows
from apptell.verdicts import Evidence, EvidenceOptions, flows_and_verdicts, identify_flows
from apptell.watch.observations import Observations
from apptell.watch.record_sources import are_records, read_all_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from apptell.flows import FlowBatch
    from apptell.models import Model

RATE: Final = 0.05
"""Stated share of flows of known apps that may be called unknown."""


def observe(
    sources: Sequence[str], model: Model, catalogue: Sequence[str | Path] = ()
) -> Observations:
    """Observes the flows of captures, or of records that the model made earlier.

    In captures the model decides every flow, also those that their own name identifies, so that the two can
    be compared. Records have the model's answer only for flows that no name identified.

    Args:
        sources: captures and folders of captures, or files and archives of records; not both.
        model: the model that decides.
        catalogue: files with rows that are added to the catalogue or override its own.

    Raises:
        UsageError: captures and records together, or nothing.
        CaptureError: a source cannot be read, or is damaged.
    """
    if are_records(sources):
        tables = read_all_records(sources)
        try:
            return Observations.of_records(tables, model.apps)
        except (KeyError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise CaptureError(
                f"{sources[0]}: these are not records of verdicts: {error}"
            ) from error
    files = [str(file) for file in catalogue]
    names = Evidence(Catalogue.load(files), EvidenceOptions.parse("name"))
    options = FlowOptions(transports=model.transports, decision_packets=model.decision_packets)
    with read_flows(list(sources), options) as reader:
        found = list(identified(reader, model, names))
    if not found:
        raise CaptureError(f"{', '.join(sources)}: no flow has two payload packets")
    return Observations.of_records(
        [each for each, _ in found], model.apps, [app for _, app in found]
    )


def identified(
    batches: Iterable[FlowBatch], model: Model, names: Evidence
) -> Iterator[tuple[pa.RecordBatch, pa.ChunkedArray]]:
    """Verdicts of the model on all flows, and the app that each flow's own name identifies.

    Args:
        batches: flows with the groups *core*, *segments* and *names*.
        model: decides every flow of its transport protocols.
        names: evidence by only the flows' own names.
    """
    rate = None if model.unknown is None else RATE
    for flows, verdicts in flows_and_verdicts(batches, model, unknown=rate):
        yield verdicts.to_arrow(), _named(flows, names)


def _named(flows: FlowBatch, names: Evidence) -> pa.ChunkedArray:
    parts: list[Any] = []
    for verdicts in identify_flows([flows], None, evidence=names):
        is_named = pc.equal(verdicts.column("evidence"), "name")
        parts.append(pc.if_else(is_named, verdicts.column("app"), pa.scalar(None, pa.string())))
    return pa.chunked_array(parts, pa.string())
