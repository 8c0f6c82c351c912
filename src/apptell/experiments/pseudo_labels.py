"""Labels flows by a model's own verdict, where the flow's client makes it nearly certain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from apptell.dataset import Dataset
from apptell.dataset.selection import Selection
from apptell.errors import DatasetError, UsageError
from apptell.flows import FlowOptions
from apptell.models.temperature import calibrate
from apptell.names import read_flows
from apptell.verdicts.context import reweigh_all, times_of
from apptell.verdicts.pipeline import MIN_PAYLOAD_PACKETS
from apptell.verdicts.unlearned import extended
from apptell.watch.observations import TEMPERATURE, WINDOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch
    from apptell.models import Model


def confident_flows(model: Model, source: str | Path, least: float) -> tuple[Selection, list[str]]:
    """The flows of which the model is sure, and their apps.

    The verdict is by the client's flows within 30 s on both sides, after probabilities were softened. Where the
    model can recognise unknown apps, *unknown* is weighed like an app, and its flows are left out.

    Args:
        model: the model.
        source: a dataset, or captures; labels that it has are not looked at.
        least: smallest probability.

    Raises:
        UsageError: the probability is not above a half and at most 1.
        DatasetError: the model is sure of no flow.
        CaptureError: the capture cannot be read.
    """
    if not 0.5 < least <= 1:
        raise UsageError(f"pseudo-labels need a probability above 0.5 and at most 1, not {least:g}")
    flows = _flows(model, source)
    flows = flows.filter(
        (flows.flows.payload_packets >= MIN_PAYLOAD_PACKETS)
        & np.isin(flows.flows.numpy("protocol"), model.transports)
    )
    share: NDArray[np.float32] | None = None
    if model.unknown is not None:

        def both(batch: FlowBatch) -> NDArray[np.float32]:
            said = model.predict_with_unknown(batch)
            return np.column_stack([said.probabilities, said.unknown_share])

        found = flows.gather(both, ("core", "segments", "names"))
        p, share = np.ascontiguousarray(found[:, :-1]), found[:, -1]
    else:
        p = flows.gather(model.predict_proba, ("core", "segments", "names"))
    apps: list[str] = []
    sure = np.zeros(len(p), dtype=bool)
    if len(p):
        table, prior = extended(calibrate(p, TEMPERATURE, 1e-5), model.prior, share)
        weighed, _ = reweigh_all(_clients(flows.flows), times_of(flows.flows), table, prior, WINDOW)
        best = weighed.argmax(axis=1)
        sure = (weighed.max(axis=1) >= least) & (best < len(model.apps))
        apps = [model.apps[each] for each in best[sure].tolist()]
    if not sure.any():
        raise DatasetError(f"{source}: the model is sure of no flow at {least:g}")
    return flows.filter(sure), apps


def _clients(flows: FlowBatch) -> list[tuple[str | None, str] | None]:
    capture = flows.column("capture").to_pylist()
    client = flows.column("client_address").to_pylist()
    return [
        None if who is None else (where, who) for where, who in zip(capture, client, strict=True)
    ]


def _flows(model: Model, source: str | Path) -> Selection:
    path = Path(source)
    if (path / "dataset.json").exists():
        return Selection.of(Dataset.open(path))
    options = FlowOptions(transports=model.transports, decision_packets=model.decision_packets)
    with read_flows(path, options) as reader:
        return Selection.of(reader.to_flows())
