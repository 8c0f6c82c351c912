"""FlowBatches in, VerdictBatches out: the one pipeline of identification.

``identify``, ``live``, ``compare`` and the cluster all call it, so that a flow gets the same
verdict whichever way it came in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from apptell.errors import UsageError
from apptell.flows import FlowOptions
from apptell.models import Model, load_model
from apptell.names import read_flows
from apptell.verdicts.context import ContextOptions, Scored, WholeContext
from apptell.verdicts.decide import COUNTS, FROM_FLOWS, decide

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from apptell.flows.schema import FlowBatch
    from apptell.verdicts.context import Context
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
    source: Any,
    model: Model | str | Path | None = None,
    threshold: float | None = None,
    context: ContextOptions | None = None,
) -> Iterator[Verdict]:
    """Which app made each flow of a capture.

    Args:
        source: what ``read_flows`` takes: a path, a folder, several of them, ``-``, a binary file.
        model: a model, its folder, or None for the model that ships with apptell.
        threshold: smallest accepted confidence; the model's own, else 0.85, unless given.
        context: re-weights each client's flows by what it runs; verdicts then come after the last flow.

    Yields:
        A verdict on each TCP flow with at least two payload packets, as the flows end, or by the time of
        their deciding packets with ``context``.

    Raises:
        CaptureError: the capture is damaged; after the verdicts on all flows before the damage.
        ModelError: the model cannot be loaded.
        UsageError: the threshold is not between 0 and 1.
    """
    used = model if isinstance(model, Model) else load_model(model)
    options = FlowOptions(decision_packets=used.decision_packets)
    around = None if context is None else whole_context(context, used)
    with read_flows(source, options) as flows:
        for batch in identify_flows(flows, used, threshold, context=around):
            yield from batch


def identify_flows(
    batches: Iterable[FlowBatch],
    model: Model,
    threshold: float | None = None,
    *,
    early: bool = False,
    context: Context | None = None,
) -> Iterator[VerdictBatch]:
    """Verdicts on all flows with at least two payload packets, a batch for each batch that has any.

    Args:
        batches: flows with the groups *core* and *segments*; an error raised while they are read
            comes out after the verdicts on all flows before it.
        model: the model that decides.
        threshold: smallest accepted confidence; the model's own, else 0.85, unless given.
        early: the flows are open and their fifth payload packet is still to come: one payload packet is
            enough, and the confidence is calibrated for the number of them.
        context: re-weights a client's flows; early ones are not context of others.

    Raises:
        UsageError: the threshold is not between 0 and 1.
        ModelError: the model does not fit its input.
    """
    limit = choose_threshold(threshold, model)
    name = f"{model.name}@{model.hash}"
    scored = _scored(batches, model, early=early)
    if context is not None:
        scored = context.reweigh(scored, keep=not early)
    for flows, probabilities, others in scored:
        yield decide(flows, probabilities, model.apps, limit, name, model.decision_packets, others)


def whole_context(options: ContextOptions, model: Model) -> WholeContext:
    """Context of a file's flows under a model."""
    return WholeContext(options, model.prior, (*FROM_FLOWS, *COUNTS))


def _scored(batches: Iterable[FlowBatch], model: Model, *, early: bool) -> Iterator[Scored]:
    """The flows that a verdict is given on, with their probabilities."""
    least = 1 if early else MIN_PAYLOAD_PACKETS
    for batch in batches:
        enough = batch.payload_packets >= least
        flows = batch if enough.all() else batch.filter(enough)
        if len(flows):
            yield Scored(flows, model.predict_proba(flows, early=early))
