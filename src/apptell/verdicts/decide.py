"""Decides verdicts from flows, their evidence, and a model's probabilities.

If evidence names an app, that app is the verdict. Other flows are decided by a model, if there is one: the
likeliest app, or none below the threshold. Paper, Section 4.2: the last layer's largest probability is the
confidence; a prediction whose confidence is lower than the threshold is refused. A confidence equal to the
threshold is accepted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apptell.errors import ModelError
from apptell.flows.schema import DECISION_SEGMENTS
from apptell.verdicts.novelty import with_unknown
from apptell.verdicts.schema import (
    BELOW_THRESHOLD,
    CUT_PAYLOAD,
    NAMED,
    NO_EVIDENCE,
    TOO_FEW,
    UNLEARNED_TRANSPORT,
    VerdictBatch,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch
    from apptell.verdicts.identity import Found, Identity

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
    stack: pa.Array | None = None,
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
    stack: pa.Array | None = None,
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
    n = len(flows)
    columns: dict[str, Any] = {}
    if found is not None:
        columns = found.columns()
    outcome = columns.get("outcome")
    if outcome is None:
        outcome = pa.repeat(pa.scalar(NO_EVIDENCE, pa.string()), n)
    if transports is not None:
        is_unlearned = ~np.isin(flows.numpy("protocol"), transports)
        if found is not None:
            is_unlearned &= ~found.is_app
        outcome = pc.if_else(pa.array(is_unlearned), UNLEARNED_TRANSPORT, outcome)
    if is_cut is not None:
        outcome = pc.if_else(pa.array(is_cut), CUT_PAYLOAD, outcome)
    is_few = pa.array(flows.payload_packets < (2 if found is None else 1))
    is_open = pc.is_in(outcome, pa.array([NO_EVIDENCE, UNLEARNED_TRANSPORT]))
    outcome = pc.if_else(pc.and_(is_few, is_open), TOO_FEW, outcome)
    columns |= {"outcome": outcome} if stack is None else {"outcome": outcome, "stack": stack}
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
    names = pa.array(apps, pa.string())
    best = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(n), best]
    is_named = confidence >= np.float32(round(threshold, _DIGITS))
    in_context = np.zeros(n, dtype=bool) if context_flows is None else context_flows > 0
    columns = {
        "app": names.take(pa.array(best, mask=~is_named)),
        "outcome": pc.if_else(pa.array(is_named), NAMED, BELOW_THRESHOLD),
        "evidence": pa.array(["model", "context"]).take(
            pa.array(in_context.astype(np.int8), mask=~is_named)
        ),
        "best_guess": names.take(pa.array(best)),
        "confidence": pa.array(confidence, pa.float32()),
        "threshold": pa.array(np.full(n, threshold), pa.float32()),
        "model": pa.repeat(pa.scalar(model_name, pa.string()), n),
    }
    if k > 1:
        others = probabilities.copy()
        others[np.arange(n), best] = -1.0
        second = others.argmax(axis=1)
        columns["runner_up"] = names.take(pa.array(second))
        columns["runner_up_confidence"] = pa.array(others[np.arange(n), second], pa.float32())
    if context_flows is not None:
        columns["context_flows"] = pa.array(context_flows, pa.int32())
    return columns


def _joined(
    of_model: dict[str, Any], found: Found, known: Mapping[str, Identity]
) -> dict[str, Any]:
    """The model's columns for flows without an app by evidence, and the columns of evidence."""
    by_evidence = found.columns()
    is_app = pa.array(found.is_app)
    columns = dict(of_model)
    for name in OF_MODEL:
        if name in columns:
            nothing = pa.scalar(None, columns[name].type)
            columns[name] = pc.if_else(is_app, nothing, columns[name])
    for name in ("app", "outcome"):
        columns[name] = pc.if_else(is_app, by_evidence[name], of_model[name])
    said = pc.coalesce(of_model["evidence"], by_evidence["evidence"])
    columns["evidence"] = pc.if_else(is_app, by_evidence["evidence"], said)
    listed = [known.get(app) for app in columns["app"].to_pylist()]
    for name in ("app_name", "category"):
        texts = [None if app is None else getattr(app, name) for app in listed]
        columns[name] = pc.coalesce(by_evidence[name], pa.array(texts, pa.string()))
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
    n = len(flows)
    there = set(flows.columns)
    columns |= {name: flows.column(name) for name in FROM_FLOWS if name in there}
    columns |= {
        "payload_packets_seen": pa.array(np.minimum(flows.payload_packets, packets), pa.int32()),
        "revised": pa.array(np.zeros(n, dtype=bool)),
    }
    return VerdictBatch.of_arrays(columns, n, probabilities)
