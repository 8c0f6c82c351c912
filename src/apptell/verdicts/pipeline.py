"""FlowBatches in, VerdictBatches out: the one pipeline of identification.

``identify``, ``live``, ``compare`` and the cluster all call it, so that a flow gets the same
verdict whichever way it came in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from apptell.errors import UsageError
from apptell.flows import FlowOptions, read_flows
from apptell.models import Model, load_model
from apptell.verdicts.decide import decide

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from apptell.flows.schema import FlowBatch
    from apptell.verdicts.schema import Verdict, VerdictBatch

DEFAULT_THRESHOLD: Final = 0.85
"""The paper's threshold (Section 4.2), when neither the caller nor the model names one."""
MIN_PAYLOAD_PACKETS: Final = 2
"""Flows with fewer packets with payload are passed over (Section 3.1)."""


def choose_threshold(wished: float | None, model: Model) -> float:
    """The threshold to use: the one wished for, else the model's own, else 0.85.

    Raises:
        UsageError: a wished threshold is not between 0 and 1.
    """
    if wished is not None:
        if not 0.0 <= wished <= 1.0:
            raise UsageError(f"threshold {wished} is not between 0 and 1")
        return wished
    return DEFAULT_THRESHOLD if model.threshold is None else model.threshold


def identify(
    source: Any, model: Model | str | Path | None = None, threshold: float | None = None
) -> Iterator[Verdict]:
    """Which app made each flow of a capture.

    Args:
        source: what ``read_flows`` takes: a path, a folder, several of them, ``-``, a binary file.
        model: a model, its folder, or None for the model that ships with apptell.
        threshold: smallest accepted confidence; the model's own, else 0.85, unless given.

    Yields:
        A verdict on each TCP flow with at least two payload packets, as the flows end.

    Raises:
        CaptureError: the capture is damaged; after the verdicts on all flows before the damage.
        ModelError: the model cannot be loaded.
        UsageError: the threshold is not between 0 and 1.
    """
    used = model if isinstance(model, Model) else load_model(model)
    options = FlowOptions(decision_packets=used.decision_packets)
    with read_flows(source, options) as flows:
        for batch in identify_flows(flows, used, threshold):
            yield from batch


def identify_flows(
    batches: Iterable[FlowBatch],
    model: Model,
    threshold: float | None = None,
    *,
    early: bool = False,
) -> Iterator[VerdictBatch]:
    """Verdicts on all flows with at least two payload packets, a batch for each batch that has any.

    Args:
        batches: flows with the groups *core* and *segments*; an error raised while they are read
            comes out after the verdicts on all flows before it.
        model: the model that decides.
        threshold: smallest accepted confidence; the model's own, else 0.85, unless given.
        early: the flows are open and their fifth payload packet is still to come: one payload packet is
            enough, and the confidence is calibrated for the number of them.

    Raises:
        UsageError: the threshold is not between 0 and 1.
        ModelError: the model does not fit its input.
    """
    limit = choose_threshold(threshold, model)
    name = f"{model.name}@{model.hash}"
    least = 1 if early else MIN_PAYLOAD_PACKETS
    for batch in batches:
        enough = batch.payload_packets >= least
        flows = batch if enough.all() else batch.filter(enough)
        if len(flows):
            probabilities = model.predict_proba(flows, early=early)
            yield decide(flows, probabilities, model.apps, limit, name, model.decision_packets)
