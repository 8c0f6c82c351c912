"""Adds the evidence of addresses to scored flows, and holds flows back that open flows may still decide."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.errors import ApptellError
from apptell.flows.schema import LINK, ORDER, FlowBatch
from apptell.verdicts.context import Scored
from apptell.verdicts.decide import COUNTS, FROM_FLOWS
from apptell.verdicts.identity import Found

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from apptell.verdicts.evidence import Evidence

NEEDED: Final = frozenset(
    {
        *FROM_FLOWS,
        *COUNTS,
        "decided_ns",
        "decided_packets_to_server",
        "decided_packets_to_client",
        "decided_bytes_to_server",
        "decided_bytes_to_client",
        "end_reason",
    }
)
"""Columns of a flow that a verdict and its records need once the model has seen the flow."""
_LIGHT: Final = NEEDED | ORDER.keys() | LINK.keys()
_JOINED_FLOWS: Final = 8192
"""Flows that were held back and are handed on together."""


def finished(scored: Iterable[Scored], evidence: Evidence) -> Iterator[Scored]:
    """Adds the evidence of addresses; flows that open flows may still decide are held back until then.

    An error in between comes after the flows before it.
    """
    held: list[tuple[int, Scored]] = []
    failed: ApptellError | None = None

    def finish(one: Scored) -> Scored:
        assert one.found is not None
        found = evidence.finish(one.found)
        return one._replace(flows=found.flows, found=found)

    try:
        for each in scored:
            found, until = each.found, evidence.known_until
            if found is None or until is None:
                yield finish(each)
                continue
            light = without_payload(each.flows)
            each = each._replace(flows=light, found=replace(found, flows=light))
            is_early = found.is_open & (found.start > until)
            if not is_early.all():
                yield finish(chosen(each, ~is_early))
            ready = [one for newest, one in held if newest <= until]
            held = [(newest, one) for newest, one in held if newest > until]
            if is_early.any():
                held.append((int(found.start[is_early].max()), chosen(each, is_early)))
            yield from map(finish, ready)
    except ApptellError as error:
        failed = error
    yield from map(finish, _joined([one for _, one in held]))
    if failed is not None:
        raise failed


def _joined(parts: list[Scored]) -> list[Scored]:
    """The same flows in fewer pieces, as far as neighbours have the same columns."""
    joined: list[Scored] = []
    waiting: list[Scored] = []
    kinds: list[object] = []
    for part in parts:
        kinds.append((part.flows.columns, *(field is None for field in part)))
        n_flows = sum(len(one.flows) for one in waiting) + len(part.flows)
        if waiting and (kinds[-1] != kinds[-2] or n_flows > _JOINED_FLOWS):
            joined.append(_concat(waiting))
            waiting = []
        waiting.append(part)
    if waiting:
        joined.append(_concat(waiting))
    return joined


def _concat(parts: Sequence[Scored]) -> Scored:
    """Several of the same columns as one."""
    if len(parts) == 1:
        return parts[0]
    found = [part.found for part in parts if part.found is not None]
    both = Found.concat(found) if found else None
    flows = FlowBatch.concat([part.flows for part in parts]) if both is None else both.flows

    def column(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    return Scored(
        flows,
        column("probabilities"),
        column("context_flows"),
        both,
        column("p_unknown"),
        column("unknown_share"),
        column("is_cut"),
    )


def chosen(scored: Scored, keep: NDArray[np.bool_]) -> Scored:
    """Some of the flows."""
    if keep.all():
        return scored
    found = None if scored.found is None else scored.found.filter(keep)
    flows = scored.flows.filter(keep) if found is None else found.flows
    probabilities, others, p_unknown, share, cut = (
        scored.probabilities,
        scored.context_flows,
        scored.p_unknown,
        scored.unknown_share,
        scored.is_cut,
    )
    return Scored(
        flows,
        None if probabilities is None else probabilities[keep],
        None if others is None else others[keep],
        found,
        None if p_unknown is None else p_unknown[keep],
        None if share is None else share[keep],
        None if cut is None else cut[keep],
    )


def without_payload(flows: FlowBatch) -> FlowBatch:
    """The same flows with the columns alone that names and verdicts need."""
    kept = {name: flows.plain(name) for name in flows.columns if name in _LIGHT}
    return FlowBatch.of_columns(kept, len(flows))
