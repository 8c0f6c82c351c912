"""Identifies the flows of a capture or a dataset, and gives their verdicts one by one."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from apptell.flows import FlowOptions
from apptell.flows.schema import DECISION_SEGMENTS
from apptell.names import read_flows
from apptell.verdicts.deciders import choose_deciders
from apptell.verdicts.novelty import check_rate
from apptell.verdicts.pipeline import check_threshold, identify_flows, whole_context
from apptell.verdicts.stored_flows import find_dataset, stored_batches, stored_evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from apptell.flows.schema import FlowBatch
    from apptell.models import Model
    from apptell.verdicts.context import ContextOptions
    from apptell.verdicts.evidence import EvidenceOptions
    from apptell.verdicts.schema import Verdict


def identify(
    source: Any,
    model: Model | str | Path | None = None,
    threshold: float | None = None,
    context: ContextOptions | str | None = None,
    *,
    evidence: EvidenceOptions | str | None = None,
    catalogue: Sequence[str | Path] = (),
    transports: str | Sequence[int | str] | None = None,
    unknown: float | None = None,
) -> Iterator[Verdict]:
    """Identifies the app behind each flow of a capture.

    Names, DNS answers and addresses are examined first; a model decides the flows that remain.

    Args:
        source: what ``read_flows`` takes: a path, a folder, several of them, ``-``, a binary file; or a
            dataset or its folder, which has no evidence from other flows (``address``, ``context``).
        model: a model or its folder (default: none; if ``evidence`` includes ``model``, the one that ships
            with apptell).
        threshold: smallest accepted confidence of the model (default: the model's own, else 0.85).
        context: seconds, as in ``30s``: the model's verdicts on each client's flows are re-weighted by what
            that client runs, and come after the last flow.
        evidence: what verdicts rest on, separated by commas: ``name``, ``dns``, ``address``, ``range``,
            ``model``, ``context``, or ``all`` (default: the first four, and ``model`` where one is given).
        catalogue: files with rows that are added to the catalogue or override its own.
        transports: names, as in ``tcp,udp``, or IP protocol numbers, 6 and 17 (default: both; without other
            evidence than a model, those that it learned).
        unknown: mark flows that look like none of the model's apps as unknown; the share of flows of its apps
            that this may happen to, as in 0.05 (default: never).

    Returns:
        An iterator over one verdict for each flow with payload (with only a model: with at least two payload
        packets). If the capture is damaged, it raises CaptureError after the verdicts on all flows before the
        damage.

    Raises:
        CaptureError: the capture cannot be opened.
        ModelError: the model cannot be loaded.
        UsageError: the threshold is not between 0 and 1, or arguments do not fit together.

    Example:
        >>> for verdict in apptell.identify("phone.pcap", "model/", evidence="model"):
        ...     print(verdict.app, round(verdict.confidence, 1))
        signal 1.0
        zoom 1.0
    """
    check_threshold(threshold)
    stored = find_dataset(source)
    if stored is not None:
        evidence = stored_evidence(evidence, model, context)
    deciders = choose_deciders(evidence, model, catalogue, context, transports)
    used, around = deciders.model, None
    check_rate(unknown, used)
    packets = DECISION_SEGMENTS if used is None else used.decision_packets
    options = FlowOptions(transports=deciders.transports, decision_packets=packets)
    if deciders.context is not None and used is not None:
        around = whole_context(deciders.context, used)
    reader: AbstractContextManager[Iterable[FlowBatch]]
    if stored is None:
        reader = read_flows(source, options, observer=deciders.evidence)
    else:
        reader = nullcontext(stored_batches(stored, used))

    def verdicts() -> Iterator[Verdict]:
        with reader as flows:
            for batch in identify_flows(
                flows,
                used,
                threshold,
                context=around,
                evidence=deciders.evidence,
                unknown=unknown,
            ):
                yield from batch

    return verdicts()
