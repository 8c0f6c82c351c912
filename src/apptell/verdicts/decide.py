"""Decides verdicts from flows, their evidence, and a model's probabilities.

If evidence names an app, that app is the verdict. Other flows are decided by a model, if there is one: the
likeliest app, or none below the threshold. Paper, Section 4.2: the last layer's largest probability is the
confidence; a prediction whose confidence is lower than the threshold is refused. A confidence equal to the
threshold is accepted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.errors import ModelError
from apptell.flows.plain_columns import Coded, Masked
from apptell.flows.schema import DECISION_SEGMENTS
from apptell.verdicts.novelty import with_unknown
from apptell.verdicts.schema import (
    BELOW_THRESHOLD,
    CUT_PAYLOAD,
    EVIDENCE_KINDS,
    NAMED,
    NO_EVIDENCE,
    OUTCOMES,
    TOO_FEW,
    UNLEARNED_TRANSPORT,
    VerdictBatch,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch
    from apptell.verdicts.identity import Found, Identity

_NAMED, _BELOW_THRESHOLD, _UNLEARNED_TRANSPORT, _NO_EVIDENCE, _CUT_PAYLOAD, _TOO_FEW = map(
    OUTCOMES.index,
    (NAMED, BELOW_THRESHOLD, UNLEARNED_TRANSPORT, NO_EVIDENCE, CUT_PAYLOAD, TOO_FEW),
)
_BY_MODEL, _BY_CONTEXT = map(EVIDENCE_KINDS.index, ("model", "context"))
_DIGITS: Final = 5
"""Decimal digits of a probability that a verdict rests on."""
FROM_FLOWS: Final[tuple[str, ...]] = (
    "start_ns",
    "end_ns",
    "capture",
    "community_id",
    "connection_id",
    "part",
    "protocol",
    "client_address",
    "client_port",
    "server_address",
    "server_port",
    "packets_to_server",
    "packets_to_client",
    "bytes_to_server",
    "bytes_to_client",
    "server_name",
    "alpn",
    "ja4",
    "http_host",
    "dns_name",
    "label",
)
"""Columns of a flow that its verdict repeats."""
COUNTS: Final = ("payload_packets_to_server", "payload_packets_to_client")
"""Columns of a flow that are added up in its verdict."""
OF_MODEL: Final = (
    "best_guess",
    "confidence",
    "runner_up",
    "runner_up_confidence",
    "threshold",
    "model",
    "context_flows",
    "p_unknown",
)
"""Columns of a model's result; null without a model."""


def decide(
    flows: FlowBatch,
    probabilities: NDArray[np.float32],
    apps: Sequence[str],
    threshold: float,
    model_name: str,
    packets: int = DECISION_SEGMENTS,
    context_flows: NDArray[np.int32] | None = None,
    found: Found | None = None,
    known: Mapping[str, Identity] | None = None,
    p_unknown: NDArray[np.float32] | None = None,
    cutoff: float = 1.0,
    stack: Coded | None = None,
) -> VerdictBatch:
    """One verdict for each flow, by evidence and a model.

    Args:
        flows: n flows; columns that are not there become nulls in the verdicts, but the numbers
            of payload packets must be.
        probabilities: shape (n, k), one row a flow; equal largest ones go to the first app.
        apps: the k apps, in the order of the columns.
        threshold: smallest confidence that is accepted, 0 to 1.
        model_name: written into every verdict of the model, ``name@hash``.
        packets: payload packets that the model looks at.
        context_flows: other flows that the probabilities rest on, shape (n,); None without context.
        found: the evidence on the n flows; if it names an app, that app is the verdict.
        known: name and category of apps by their ids, for those that the model names.
        p_unknown: how unusual each flow is, shape (n,); None where that was not asked.
        cutoff: the smallest ``p_unknown`` that is called unknown.
        stack: the column ``stack``.

    Raises:
        ModelError: the probabilities do not fit the flows and apps, or are not numbers.
    """
    columns = _of_model(len(flows), probabilities, apps, threshold, model_name, context_flows)
    if p_unknown is not None:
        columns = with_unknown(columns, p_unknown, cutoff)
    shown = np.round(probabilities, _DIGITS)
    if found is not None:
        columns = _joined(columns, found, known or {})
        shown[found.is_app] = np.nan
    if stack is not None:
        columns["stack"] = stack
    return _verdicts(flows, columns, packets, shown)


def decide_without_model(
    flows: FlowBatch,
    found: Found | None,
    packets: int = DECISION_SEGMENTS,
    transports: Sequence[int] | None = None,
    stack: Coded | None = None,
    is_cut: NDArray[np.bool_] | None = None,
) -> VerdictBatch:
    """One verdict for each flow, by only evidence.

    Args:
        flows: n flows.
        found: the evidence on them; None without evidence.
        packets: payload packets that a verdict looks at.
        transports: IP protocol numbers that the model learned, where there is one: an unnamed flow of another
            transport protocol was not passed to the model, and gets that outcome.
        stack: the column ``stack``.
        is_cut: which flows a model was not asked about because their payload is cut, shape (n,).
    """
    columns: dict[str, Any] = {} if found is None else found.columns()
    if found is None:
        outcome = np.full(len(flows), _NO_EVIDENCE, dtype=np.int8)
    else:
        outcome = columns["outcome"].codes
    if transports is not None:
        is_unlearned = ~np.isin(flows.numpy("protocol"), transports)
        if found is not None:
            is_unlearned &= ~found.is_app
        outcome[is_unlearned] = _UNLEARNED_TRANSPORT
    if is_cut is not None:
        outcome[is_cut] = _CUT_PAYLOAD
    is_few = flows.payload_packets < (2 if found is None else 1)
    outcome[is_few & ((outcome == _NO_EVIDENCE) | (outcome == _UNLEARNED_TRANSPORT))] = _TOO_FEW
    columns["outcome"] = Coded(outcome, OUTCOMES)
    if stack is not None:
        columns["stack"] = stack
    return _verdicts(flows, columns, packets)


def _of_model(
    n: int,
    probabilities: NDArray[np.float32],
    apps: Sequence[str],
    threshold: float,
    model_name: str,
    context_flows: NDArray[np.int32] | None,
) -> dict[str, Any]:
    """The columns that the model fills."""
    k = len(apps)
    if probabilities.shape != (n, k) or k == 0:
        raise ModelError(
            f"{model_name}: probabilities of shape {probabilities.shape} for {n} flows and {k} apps"
        )
    if np.isnan(probabilities).any():
        raise ModelError(f"{model_name}: a probability is not a number")
    # the last bits depend on how many flows ran at once: they break no tie and pass no threshold
    probabilities = np.round(probabilities, _DIGITS)
    best = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(n), best]
    is_named = confidence >= np.float32(round(threshold, _DIGITS))
    in_context = np.zeros(n, dtype=bool) if context_flows is None else context_flows > 0
    evidence = np.where(in_context, _BY_CONTEXT, _BY_MODEL)
    columns: dict[str, Any] = {
        "app": Coded(best, apps).where(is_named),
        "outcome": Coded(np.where(is_named, _NAMED, _BELOW_THRESHOLD), OUTCOMES),
        "evidence": Coded(evidence, EVIDENCE_KINDS).where(is_named),
        "best_guess": Coded(best, apps),
        "confidence": _without_null(confidence),
        "threshold": _without_null(np.full(n, threshold, dtype=np.float32)),
        "model": Coded(np.zeros(n, dtype=np.int8), [model_name]),
    }
    if k > 1:
        others = probabilities.copy()
        others[np.arange(n), best] = -1.0
        second = others.argmax(axis=1)
        columns["runner_up"] = Coded(second, apps)
        columns["runner_up_confidence"] = _without_null(others[np.arange(n), second])
    if context_flows is not None:
        columns["context_flows"] = _without_null(np.asarray(context_flows, dtype=np.int32))
    return columns


def _without_null(numbers: NDArray[Any]) -> Masked:
    return Masked(numbers, np.zeros(len(numbers), dtype=bool))


def _joined(
    of_model: dict[str, Any], found: Found, known: Mapping[str, Identity]
) -> dict[str, Any]:
    """The model's columns for flows without an app by evidence, and the columns of evidence."""
    by_evidence, is_app = found.columns(), found.is_app
    columns = dict(of_model)
    if is_app.any():
        columns |= {name: columns[name].where(~is_app) for name in OF_MODEL if name in columns}
    model_app = of_model["app"]
    n_found = len(found.identities)
    model_code = np.where(model_app.codes < 0, -1, n_found + model_app.codes)
    code = np.where(is_app, found.code, model_code)
    apps = [*(identity.app for identity in found.identities), *model_app.texts]
    columns["app"] = Coded(code, apps)
    names: list[str | None] = [*by_evidence["app_name"].texts, *(None for _ in model_app.texts)]
    categories: list[str | None] = [
        *by_evidence["category"].texts,
        *(None for _ in model_app.texts),
    ]
    for place in set(code.tolist()) - {-1}:
        listed = known.get(apps[place] or "")
        if listed is not None:
            names[place] = listed.app_name if names[place] is None else names[place]
            categories[place] = categories[place] or listed.category
    columns["app_name"], columns["category"] = Coded(code, names), Coded(code, categories)
    outcome, kind = of_model["outcome"].codes, of_model["evidence"].codes
    columns["outcome"] = Coded(np.where(is_app, by_evidence["outcome"].codes, outcome), OUTCOMES)
    by_model = ~is_app & (kind >= 0)
    columns["evidence"] = Coded(np.where(by_model, kind, found.kind), EVIDENCE_KINDS)
    for name in ("service", "service_kind"):
        columns[name] = by_evidence[name]
    return columns


def _verdicts(
    flows: FlowBatch,
    columns: dict[str, Any],
    packets: int,
    probabilities: NDArray[np.float32] | None = None,
) -> VerdictBatch:
    """Verdicts of these columns, with those of the flows."""
    there = set(flows.columns)
    columns |= {name: flows.plain(name) for name in FROM_FLOWS if name in there}
    seen = np.minimum(flows.payload_packets, packets)
    columns["payload_packets_seen"] = seen.astype(np.int32)
    columns["revised"] = np.zeros(len(flows), dtype=bool)
    return VerdictBatch.of_columns(columns, len(flows), probabilities)
