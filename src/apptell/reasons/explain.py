"""Explains verdicts: of a capture, of batches of flows, or of one flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from apptell.encoding.token_meanings import token_meanings
from apptell.errors import UsageError
from apptell.flows import FlowOptions
from apptell.flows.schema import DECISION_SEGMENTS, FlowBatch
from apptell.names import read_flows
from apptell.reasons.byte_parts import segments_of
from apptell.reasons.evidence_steps import evidence_steps
from apptell.reasons.explanation import EvidenceStep, Explanation, ModelReason
from apptell.reasons.occlusion import occluded_bytes, occluded_features
from apptell.reasons.score import Pair
from apptell.reasons.similar_flows import KeptFlows
from apptell.reasons.token_reason import (
    exact_reason,
    meanings_of,
    occluded_names,
    occluded_tokens,
)
from apptell.reasons.token_weights import TokenWeights
from apptell.reasons.tree_paths import TreePaths
from apptell.verdicts import check_threshold, choose_deciders, flows_and_verdicts, whole_context
from apptell.verdicts.novelty import check_rate
from apptell.verdicts.pipeline import least_payload_packets
from apptell.verdicts.schema import NEW_STACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from apptell.models import Model
    from apptell.verdicts import Deciders, Verdict, VerdictBatch
    from apptell.verdicts.context import ContextOptions
    from apptell.verdicts.evidence import Evidence, EvidenceOptions

_NOTICEABLE: Final = 1e-3


class Explainer:
    """Explains verdicts of one model and one memory of evidence.

    Args:
        model: gave the verdicts; None where only evidence did.
        evidence: gave the verdicts, with what it remembers; None where only a model did.
        similar: flows of the training set that are most like each flow, to be found besides.

    Raises:
        UsageError: similar flows are asked for, and the model keeps none.
        ModelError: its kept rows are damaged.
    """

    def __init__(
        self, model: Model | None = None, evidence: Evidence | None = None, similar: int = 0
    ) -> None:
        self._model, self._evidence = model, evidence
        self._n_similar = similar
        self._kept = None if model is None or not similar else KeptFlows.of(model)
        if similar and self._kept is None:
            helps = "model" if model is None else "keeps_rows"
            raise UsageError(_no_rows(model), argument=helps)
        self._tokens: TokenWeights | None = None
        self._trees: TreePaths | None = None
        if model is not None and model.info["inputs"] == "structure":
            self._tokens = TokenWeights.of(model)
        elif model is not None and model.info["inputs"] in ("statistics", "bursts", "lengths"):
            self._trees = TreePaths.of(model)

    def explain(self, flows: FlowBatch, verdict: Verdict) -> Explanation:
        """Why a verdict says what it says.

        Args:
            flows: one flow with the groups *core*, *segments* and *names*.
            verdict: on this flow.

        Raises:
            DatasetError: a column is missing.
            ModelError: the model fails.
        """
        steps: list[EvidenceStep] = []
        if self._evidence is not None:
            has_place = "start_place" in flows.columns
            place = flows.numpy("start_place" if has_place else "start_ns")[0]
            steps = evidence_steps(verdict, self._evidence, int(place))
        model = self._model
        sink = token_meanings(flows) if model is None else meanings_of(flows, model)
        segments = segments_of(flows, sink)
        reason = None
        if model is not None and verdict.model is not None and len(model.apps) > 1:
            reason = self._reason(flows, verdict, sink, segments, model)
            steps.append(_model_step(verdict, reason))
            if verdict.evidence == "context" or verdict.context_flows:
                steps.append(_context_step(verdict, reason))
        similar = None if self._kept is None else self._kept.like(flows, self._n_similar)
        return Explanation(verdict, tuple(steps), reason, tuple(segments), similar)

    def _reason(
        self, flows: FlowBatch, verdict: Verdict, sink: Any, segments: list[Any], model: Model
    ) -> ModelReason:
        x = model.encode(flows)[0]
        probabilities = model.predict_inputs(x[None])[0]
        app = model.apps.index(verdict.best_guess)
        runner_up = model.apps.index(verdict.runner_up)
        pair = Pair(app, runner_up)
        calibration = model.info["calibration"]
        t = 1.0 if calibration is None else float(calibration["temperature"])
        inputs = model.info["inputs"]
        if inputs == "structure":
            weights = self._tokens
            if weights is not None and weights.fits(x, probabilities, t):
                found = exact_reason(flows, x, sink, pair, weights, t)
            else:
                found = occluded_tokens(flows, x, sink, pair, model)
        elif inputs == "names":
            found = occluded_names(flows, x, pair, model)
        elif inputs in ("image", "payload"):
            found = occluded_bytes(x, segments, pair, model)
        elif self._trees is not None:
            found = self._trees.reason(x, pair, model)
        else:
            found = occluded_features(x, pair, model)
        ordered = sorted(found.contributions, key=lambda each: -abs(each.value))
        return ModelReason(
            model=str(verdict.model),
            method=found.method,
            unit=found.unit,
            app=model.apps[app],
            runner_up=model.apps[runner_up],
            probability=float(probabilities[app]),
            runner_up_probability=float(probabilities[runner_up]),
            total=found.total,
            base=found.base,
            contributions=tuple(ordered),
            unknown_parts=found.unknown_parts,
            saliency=found.saliency,
        )


def _no_rows(model: Model | None) -> str:
    if model is None:
        return "similar flows are those of a model's training set, and no model is used"
    return (
        f"the model {model.name}@{model.hash} keeps no flows of its training set that could be compared: train "
        "it again and keep its rows"
    )


def _model_step(verdict: Verdict, reason: ModelReason) -> EvidenceStep:
    words = (
        f"the model {reason.model} gives {reason.app} {reason.probability:.3f} and {reason.runner_up} "
        f"{reason.runner_up_probability:.3f}; {verdict.threshold:.2f} is needed"
    )
    differs = abs(verdict.confidence - reason.probability) > _NOTICEABLE
    if verdict.stack == NEW_STACK and differs and not verdict.context_flows:
        words += f"; because the TLS stack is new, {verdict.confidence:.3f} counts"
    return EvidenceStep("model", verdict.evidence == "model", words)


def _context_step(verdict: Verdict, reason: ModelReason) -> EvidenceStep:
    words = (
        f"with {verdict.context_flows} other flows of the client, {reason.app} has "
        f"{verdict.confidence:.3f} instead of {reason.probability:.3f}"
    )
    return EvidenceStep("context", verdict.evidence == "context", words)


class Reasons:
    """Explains the verdicts that a pipeline gives: keeps each flow until its verdict is there.

    Args:
        deciders: what gives the verdicts.
        flow: the Community ID of the only flows that are explained (default: all).
        similar: as of ``Explainer``.
    """

    def __init__(self, deciders: Deciders, flow: str | None = None, similar: int = 0) -> None:
        self._explainer = Explainer(deciders.model, deciders.evidence, similar)
        self._least = least_payload_packets(deciders.evidence)
        self._flow = flow
        self._held: dict[tuple[Any, ...], FlowBatch] = {}
        self._settled: dict[tuple[Any, ...], FlowBatch] = {}

    def hold(self, batches: Iterable[FlowBatch]) -> Iterator[FlowBatch]:
        """The same flows (groups *core*, *segments* and *names*), on their way into the pipeline."""
        for batch in batches:
            asked = batch.filter(batch.payload_packets >= self._least)
            if self._flow is not None:
                asked = asked.filter(asked.numpy("community_id") == self._flow)
            for row, key in enumerate(_keys(asked)):
                self._held[key] = asked.take([row])
            yield batch

    def settle(self, flows: FlowBatch) -> None:
        """Notes that the verdicts on these flows are there; those on earlier ones can be explained no more."""
        self._settled = {key: self._held.pop(key) for key in _keys(flows) if key in self._held}

    def explanations(
        self, flows: FlowBatch, verdicts: VerdictBatch
    ) -> Iterator[Explanation | None]:
        """The explanation of each verdict on flows that were settled; None for one that was not asked for."""
        for key, verdict in zip(_keys(flows), verdicts, strict=True):
            one = self._settled.get(key)
            yield None if one is None else self._explainer.explain(one, verdict)

    def summaries(self, flows: FlowBatch, verdicts: VerdictBatch) -> list[str]:
        """The reason of each verdict in words; the outcome of a flow that is too short for evidence."""
        found = zip(self.explanations(flows, verdicts), verdicts, strict=True)
        return [(each or Explanation(verdict, ())).summary for each, verdict in found]


def explained_batches(
    batches: Iterable[FlowBatch],
    deciders: Deciders,
    threshold: float | None = None,
    *,
    flow: str | None = None,
    unknown: float | None = None,
    similar: int = 0,
    keep: Callable[[pa.RecordBatch], NDArray[np.bool_]] | None = None,
) -> Iterator[tuple[VerdictBatch, list[Explanation]]]:
    """Verdicts as ``identify_flows`` gives them, each with its explanation.

    Args:
        batches: flows with the groups *core*, *segments* and *names*.
        deciders: evidence, model and context.
        threshold: smallest accepted confidence of the model.
        flow: the Community ID of the only flows that are explained (default: all).
        unknown: share of flows of the model's apps that may be called unknown.
        similar: flows of the training set that are most like each flow, to be found besides.
        keep: says which of n verdicts are explained, shape (n,); None for all. The others cost no explanation.

    Yields:
        A batch of verdicts, and the explanations of those that were asked for.

    Raises:
        UsageError: similar flows are asked for, and the model keeps none.
        ModelError: the model fails, or its kept rows are damaged.
    """
    reasons = Reasons(deciders, flow, similar)
    around = None
    if deciders.context is not None and deciders.model is not None:
        around = whole_context(deciders.context, deciders.model)
    for flows, verdicts in flows_and_verdicts(
        reasons.hold(batches),
        deciders.model,
        threshold,
        context=around,
        evidence=deciders.evidence,
        unknown=unknown,
    ):
        reasons.settle(flows)
        if keep is not None:
            kept = keep(verdicts.to_arrow())
            flows, verdicts = flows.filter(kept), verdicts.filter(kept)
        found = reasons.explanations(flows, verdicts)
        yield verdicts, [each for each in found if each is not None]


def _keys(flows: FlowBatch) -> list[tuple[Any, ...]]:
    """What tells one flow from another."""
    names = ("connection_id", "part", "start_ns", "community_id", "capture")
    return list(zip(*(flows.column(name).to_pylist() for name in names), strict=True))


def explain(
    source: Any,
    model: Model | str | Path | None = None,
    threshold: float | None = None,
    context: ContextOptions | str | None = None,
    *,
    flow: str | None = None,
    evidence: EvidenceOptions | str | None = None,
    catalogue: Sequence[str | Path] = (),
    transports: Sequence[int] | None = None,
    unknown: float | None = None,
    similar: int = 0,
) -> Iterator[Explanation]:
    """Explains the verdicts on the flows of a capture.

    Args:
        source: what ``read_flows`` takes.
        model: as ``identify`` takes it, like the following.
        threshold: smallest accepted confidence of the model.
        context: seconds, as in ``30s``.
        flow: the Community ID of the only flows to explain (default: all).
        evidence: what verdicts rest on.
        catalogue: files with rows that are added to the catalogue.
        transports: IP protocol numbers.
        unknown: share of flows of the model's apps that may be called unknown.
        similar: flows of the training set that are most like each flow, to be found besides; the model must
            have been trained with ``keep_rows``.

    Returns:
        An iterator over one explanation for each flow on which ``identify`` gives a verdict.

    Raises:
        CaptureError: the capture cannot be opened; or it is damaged, after the flows before the damage.
        ModelError: the model cannot be loaded.
        UsageError: arguments that do not fit together, or no Community ID, or similar flows are asked for and
            the model keeps none.

    Example:
        >>> for found in apptell.explain("phone.pcap", "model/", evidence="model"):
        ...     print(found.verdict.app, len(found.model.contributions) > 3)
        signal True
        zoom True
    """
    check_threshold(threshold)
    check_flow(flow)
    deciders = choose_deciders(evidence, model, catalogue, context, transports)
    check_rate(unknown, deciders.model)
    packets = DECISION_SEGMENTS if deciders.model is None else deciders.model.decision_packets
    options = FlowOptions(transports=deciders.transports, decision_packets=packets)
    reader = read_flows(source, options, observer=deciders.evidence)

    def explanations() -> Iterator[Explanation]:
        with reader:
            for _, found in explained_batches(
                reader, deciders, threshold, flow=flow, unknown=unknown, similar=similar
            ):
                yield from found

    return explanations()


def check_flow(flow: str | None) -> None:
    """Refuses what is no Community ID.

    Raises:
        UsageError: it is none.
    """
    if flow is not None and not flow.startswith("1:"):
        raise UsageError(
            f"{flow!r} is no Community ID, which looks like 1:LQU9qZlK+B5F3KDmev6m5PMibrg="
        )
