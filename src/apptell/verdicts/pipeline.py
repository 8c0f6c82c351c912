"""The pipeline of identification: flows become verdicts.

``identify``, ``live`` and ``compare`` all call it, so that a flow always gets the same verdict.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.errors import UsageError
from apptell.verdicts.context import ContextOptions, Scored, WholeContext
from apptell.verdicts.cut_payload import is_cut
from apptell.verdicts.decide import decide, decide_without_model
from apptell.verdicts.held import NEEDED, chosen, finished, without_payload
from apptell.verdicts.novelty import check_rate, stacks
from apptell.verdicts.unlearned import UNKNOWN_PRIOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from apptell.flows.schema import FlowBatch
    from apptell.models import Model
    from apptell.verdicts.context import Context
    from apptell.verdicts.evidence import Evidence
    from apptell.verdicts.identity import Found, Identity
    from apptell.verdicts.schema import VerdictBatch

DEFAULT_THRESHOLD: Final = 0.85
"""The paper's threshold (Section 4.2), when neither the caller nor the model names one."""
MIN_PAYLOAD_PACKETS: Final = 2
"""A model does not decide flows with fewer payload packets (Section 3.1)."""


def choose_threshold(requested: float | None, model: Model) -> float:
    """The threshold to use: the one requested, else the model's own, else 0.85.

    Raises:
        UsageError: a requested threshold is not between 0 and 1.
    """
    check_threshold(requested)
    if requested is not None:
        return requested
    return DEFAULT_THRESHOLD if model.threshold is None else model.threshold


def least_payload_packets(evidence: Evidence | None, *, early: bool = False) -> int:
    """Packets with payload that a flow must have for a verdict: names need one, a model needs more."""
    return 1 if early or evidence is not None else MIN_PAYLOAD_PACKETS


def check_threshold(requested: float | str | None) -> None:
    """Refuses a threshold that is not a probability.

    Raises:
        UsageError: it is a text, or not between 0 and 1.
    """
    if requested is None:
        return
    if isinstance(requested, str) or not 0.0 <= requested <= 1.0:
        raise UsageError(f"threshold {requested!r} is not between 0 and 1")


def identify_flows(
    batches: Iterable[FlowBatch],
    model: Model | None = None,
    threshold: float | None = None,
    *,
    early: bool = False,
    context: Context | None = None,
    evidence: Evidence | None = None,
    unknown: float | None = None,
) -> Iterator[VerdictBatch]:
    """Verdicts on all flows with at least two payload packets, with evidence at least one, in batches.

    Args:
        batches: flows with the groups *core* and *segments*, and *names* for evidence; an error raised while
            they are read comes out after the verdicts on all flows before it.
        model: decides the flows for which evidence names no app; None for only evidence. It is used only on
            flows of the transport protocols that it learned, and if it reads payload and learned from whole
            packets, not on flows whose payload the capture has cut.
        threshold: smallest accepted confidence (default: the model's own, else 0.85).
        early: the flows are open and their fifth payload packet is still to come: one payload packet is
            enough, and the confidence is calibrated for the number of them.
        context: re-weights a client's flows; early ones are not context of others.
        evidence: names, DNS answers, addresses and ranges, which precede the model; None for only the model.
        unknown: share of flows of the model's apps that may be called unknown; None calls none so. Open flows
            are never called unknown early.

    Raises:
        UsageError: the threshold is not between 0 and 1, or the model cannot recognise unknown apps.
        ModelError: the model does not fit its input.

    Example:
        >>> model = apptell.load_model("model/")
        >>> with apptell.read_flows("phone.pcap") as flows:
        ...     for verdicts in apptell.identify_flows(flows, model):
        ...         print(verdicts.column("app").to_pylist())
        ['signal', 'zoom']
    """
    check_threshold(threshold)
    check_rate(unknown, model)
    both = flows_and_verdicts(
        batches,
        model,
        threshold,
        early=early,
        context=context,
        evidence=evidence,
        unknown=unknown,
    )
    return (verdicts for _, verdicts in both)


def flows_and_verdicts(
    batches: Iterable[FlowBatch],
    model: Model | None = None,
    threshold: float | None = None,
    *,
    early: bool = False,
    context: Context | None = None,
    evidence: Evidence | None = None,
    unknown: float | None = None,
    all_flows: bool = False,
) -> Iterator[tuple[FlowBatch, VerdictBatch]]:
    """The same as ``identify_flows``, each batch with the flows that it is about.

    The flows have the columns ``NEEDED``; whether they have others depends on when their verdict was found.
    With ``all_flows`` there are also verdicts on flows with too few payload packets, which teach nothing about
    other flows.
    """
    check_rate(unknown, model)
    begun = _begun(batches, model, evidence, early=early, all_flows=all_flows)
    scored = _asked(begun, model, early=early, asks_unknown=unknown is not None)
    if context is not None:
        scored = context.reweigh(scored, keep=not early)
    if evidence is not None:
        scored = finished(scored, evidence)
    known_apps = None if evidence is None else evidence.known_apps
    return _decided(
        scored,
        model,
        threshold,
        known_apps,
        None if early else unknown,
        in_context=context is not None,
    )


def identify_found(
    found: Found,
    model: Model | None = None,
    threshold: float | None = None,
    *,
    early: bool = False,
    context: Context | None = None,
    known_apps: Mapping[str, Identity] | None = None,
    unknown: float | None = None,
) -> Iterator[VerdictBatch]:
    """Verdicts on flows of which evidence has said all that it knows.

    Args:
        found: flows with at least one payload packet, and what ``Evidence.finish`` says of them.
        model: as ``identify_flows`` takes it, like the following.
        threshold: smallest accepted confidence.
        early: whether the flows' fifth payload packet is still to come.
        context: re-weights a client's flows.
        known_apps: name and category of apps by their ids, for those that the model names.
        unknown: as ``identify_flows`` takes it.
    """
    check_rate(unknown, model)
    begun = [Scored(found.flows, None, None, found)]
    scored = _asked(begun, model, early=early, asks_unknown=unknown is not None)
    if context is not None:
        scored = context.reweigh(scored, keep=not early)
    for _, verdicts in _decided(
        scored,
        model,
        threshold,
        known_apps,
        None if early else unknown,
        in_context=context is not None,
    ):
        yield verdicts


def _decided(
    scored: Iterable[Scored],
    model: Model | None,
    threshold: float | None,
    known_apps: Mapping[str, Identity] | None,
    unknown: float | None,
    *,
    in_context: bool,
) -> Iterator[tuple[FlowBatch, VerdictBatch]]:
    """The flows with their verdicts."""
    if model is None:
        for flows, _, _, found, *_ in scored:
            yield flows, decide_without_model(flows, found)
        return
    limit = choose_threshold(threshold, model)
    name, packets = f"{model.name}@{model.hash}", model.decision_packets
    detector = None if unknown is None else model.require_unknown()
    cutoff = 1.0 if unknown is None or detector is None else detector.cutoff(unknown)
    if unknown is not None and in_context:
        cutoff = 1 - unknown
    for flows, probabilities, others, found, p_unknown, share, cut in scored:
        if detector is None:
            p_unknown = None
        elif in_context and share is not None:
            p_unknown = detector.ranks_in_context(share)
        stack = stacks(flows, model)
        if probabilities is None:
            verdicts = decide_without_model(flows, found, packets, model.transports, stack, cut)
        else:
            verdicts = decide(
                flows,
                probabilities,
                model.apps,
                limit,
                name,
                packets,
                others,
                found,
                known_apps,
                p_unknown,
                cutoff,
                stack,
            )
        yield flows, verdicts


def whole_context(options: ContextOptions, model: Model) -> WholeContext:
    """Context of a file's flows under a model."""
    return WholeContext(options, model.prior, NEEDED)


def _begun(
    batches: Iterable[FlowBatch],
    model: Model | None,
    evidence: Evidence | None,
    *,
    early: bool,
    all_flows: bool,
) -> Iterator[Scored]:
    """The flows that a verdict is given on, with what their names say."""
    least = least_payload_packets(evidence, early=early)
    for batch in batches:
        flows = batch if model is not None else without_payload(batch)
        enough = flows.payload_packets >= least
        for wanted, is_enough in ((enough, True), (~enough & all_flows, False)):
            some = flows.filter(wanted)
            if not len(some):
                continue
            if evidence is None:
                yield Scored(some, None)
            else:
                found = evidence.begin(some, is_remembered=is_enough and not early)
                yield Scored(found.flows, None, None, found)


def _asked(
    begun: Iterable[Scored], model: Model | None, *, early: bool, asks_unknown: bool
) -> Iterator[Scored]:
    """The same with the probabilities of the flows that no name decides, by the model."""
    if model is None:
        yield from begun
        return
    least = 1 if early else MIN_PAYLOAD_PACKETS
    for whole in begun:
        flows = whole.flows
        is_asked = np.isin(flows.numpy("protocol"), model.transports)
        is_asked &= flows.payload_packets >= least
        if whole.found is not None:
            is_asked &= ~whole.found.is_app
        cut = None
        if model.needs_whole_packets and is_asked.any():
            cut = is_asked & is_cut(flows, model.decision_packets)
            is_asked &= ~cut
        if not is_asked.all():
            light = without_payload(flows)
            found = None if whole.found is None else replace(whole.found, flows=light)
            yield chosen(Scored(light, None, None, found, is_cut=cut), ~is_asked)
        if is_asked.any():
            asked = chosen(whole, is_asked)
            if asks_unknown and early:  # too little is known of them yet
                share = np.full(len(asked.flows), UNKNOWN_PRIOR, dtype=np.float32)
                probabilities = model.predict_proba(asked.flows, early=True)
                yield asked._replace(probabilities=probabilities, unknown_share=share)
            elif asks_unknown:
                probabilities, p_unknown, share = model.predict_with_unknown(asked.flows)
                yield asked._replace(
                    probabilities=probabilities, p_unknown=p_unknown, unknown_share=share
                )
            else:
                yield asked._replace(probabilities=model.predict_proba(asked.flows, early=early))
