"""Flows and their probabilities in, verdicts out: the likeliest app, or none below the threshold.

Paper, Section 4.2: the last layer's largest probability is the confidence; a prediction whose
confidence is lower than the threshold is refused. A confidence equal to the threshold is accepted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from apptell.errors import ModelError
from apptell.flows.schema import DECISION_SEGMENTS
from apptell.verdicts.schema import SCHEMA, VerdictBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

_DIGITS: Final = 5
"""Decimal digits of a probability that a verdict rests on."""
_KINDS: Final = tuple(zip(SCHEMA.names, SCHEMA.types, strict=True))
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
    "ja4",
    "label",
)
"""Columns of a flow that its verdict repeats."""
COUNTS: Final = ("payload_packets_to_server", "payload_packets_to_client")
"""Columns of a flow that are added up in its verdict."""


def decide(
    flows: FlowBatch,
    probabilities: NDArray[np.float32],
    apps: Sequence[str],
    threshold: float,
    model_name: str,
    packets: int = DECISION_SEGMENTS,
    context_flows: NDArray[np.int32] | None = None,
) -> VerdictBatch:
    """One verdict for each flow.

    Args:
        flows: n flows; columns that are not there become nulls in the verdicts, but the numbers
            of payload packets must be.
        probabilities: shape (n, k), one row a flow; equal largest ones go to the first app.
        apps: the k apps, in the order of the columns.
        threshold: smallest confidence that is accepted, 0 to 1.
        model_name: written into every verdict, ``name@hash``.
        packets: payload packets that the model looks at.
        context_flows: other flows that the probabilities rest on, shape (n,); None without context.

    Raises:
        ModelError: the probabilities do not fit the flows and apps, or are not numbers.
    """
    n, k = len(flows), len(apps)
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
    accepted = confidence >= np.float32(round(threshold, _DIGITS))
    guesses = [apps[place] for place in best.tolist()]
    is_named = accepted.tolist()
    if k > 1:
        others = probabilities.copy()
        others[np.arange(n), best] = -1.0
        second = others.argmax(axis=1)
        runner_up = pa.array([apps[place] for place in second.tolist()], pa.string())
        runner_up_confidence = pa.array(others[np.arange(n), second], pa.float32())
    else:
        runner_up, runner_up_confidence = pa.nulls(n, pa.string()), pa.nulls(n, pa.float32())

    there = set(flows.columns)
    columns: dict[str, Any] = {name: flows.column(name) for name in FROM_FLOWS if name in there}
    columns |= {
        "outcome": pa.array(["named" if there else "declined" for there in is_named], pa.string()),
        "app": pa.array(
            [app if there else None for app, there in zip(guesses, is_named, strict=True)],
            pa.string(),
        ),
        "best_guess": pa.array(guesses, pa.string()),
        "confidence": pa.array(confidence, pa.float32()),
        "runner_up": runner_up,
        "runner_up_confidence": runner_up_confidence,
        "threshold": pa.array(np.full(n, threshold), pa.float32()),
        "payload_packets_seen": pa.array(np.minimum(flows.payload_packets, packets), pa.int32()),
        "model": pa.repeat(pa.scalar(model_name, pa.string()), n),
        "revised": pa.array(np.zeros(n, dtype=bool)),
    }
    if context_flows is not None:
        columns["context_flows"] = pa.array(context_flows, pa.int32())
    return VerdictBatch(
        pa.RecordBatch.from_arrays(
            [columns[name] if name in columns else pa.nulls(n, kind) for name, kind in _KINDS],
            schema=SCHEMA,
        )
    )
