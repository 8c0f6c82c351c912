"""Decides open and ended flows, and remembers each flow's verdict until the flow ends.

It has no thread and reads no clock. Identification is ``verdicts.identify_flows``, as for files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from sys import intern
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apptell.flows import FlowBatch
from apptell.flows.schema import DECISION_SEGMENTS
from apptell.records.schema import END, VERDICT, live_records, with_link
from apptell.service.work import DECIDED, EARLY
from apptell.verdicts import RollingContext, VerdictBatch, choose_threshold, flows_and_verdicts
from apptell.verdicts.decide import decide_without_model
from apptell.verdicts.evidence import BY_NAME
from apptell.verdicts.identity import Found
from apptell.verdicts.novelty import check_rate
from apptell.verdicts.pipeline import identify_found, least_payload_packets
from apptell.verdicts.schema import NAMED, OVERLOADED, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from apptell.models import Model
    from apptell.records.schema import Records
    from apptell.service.work import Work
    from apptell.verdicts import ContextOptions, Evidence

_NAMES: Final = ("server_name", "alpn", "ja4", "http_host")
_REMEMBERED: Final = (
    "outcome",
    "app",
    "app_name",
    "category",
    "service",
    "service_kind",
    "evidence",
    "dns_name",
    "best_guess",
    "confidence",
    "runner_up",
    "runner_up_confidence",
    "threshold",
    "payload_packets_seen",
    "model",
    "context_flows",
    "p_unknown",
    "stack",
    *_NAMES,
    "revised",  # stands last
)
_APP: Final = _REMEMBERED.index("app")
_EVIDENCE: Final = _REMEMBERED.index("evidence")
_TOTALS: Final = (
    "packets_to_server",
    "packets_to_client",
    "bytes_to_server",
    "bytes_to_client",
)

_FEW_BATCHES: Final = 4
"""Batches up to which it takes longer to join them than to decide each by itself."""
_Asked = tuple[FlowBatch, Found | None]
"""Flows, and what evidence says of them."""
_Key = tuple[int, int]
"""Connection and part."""


@dataclass(slots=True)
class _Known:
    """The verdict of an open flow."""

    values: tuple[Any, ...]
    """As in ``_REMEMBERED``."""
    is_early: bool
    """Whether it was early, before the flow's verdict was due."""
    n_open: int = 1
    """Open flows of that key: more than one in captures whose time begins anew."""


@dataclass(slots=True)
class _Sorted:
    """Flows, sorted by what has to be done with them."""

    early: list[_Asked]
    due: list[_Asked]
    overloaded: list[_Asked]
    ended: list[FlowBatch]
    late: list[_Asked]
    """Ended flows whose name was seen only after their verdict."""


class Decisions:
    """Decides flows, and remembers the verdicts of open flows.

    Args:
        model: decides the flows that evidence does not; may be replaced at any time by setting ``model``;
            None for only evidence.
        threshold: smallest accepted confidence; default: the model's own, else 0.85.
        context: re-weights a client's flows by those decided before; None to decide each flow independently.
        evidence: names, DNS answers, addresses and ranges; None for only the model.
        unknown: share of flows of the model's apps that may be called unknown; None calls none so.
        all_flows: whether flows with too few payload packets are reported, too, and all with the columns
            ``LINK_FIELDS``, which are null while a flow is open.
    """

    def __init__(
        self,
        model: Model | None,
        threshold: float | None = None,
        context: ContextOptions | None = None,
        evidence: Evidence | None = None,
        unknown: float | None = None,
        *,
        all_flows: bool = False,
    ) -> None:
        if model is not None:
            choose_threshold(threshold, model)
        check_rate(unknown, model)
        self._unknown = unknown
        self._known_apps = None if evidence is None else evidence.known_apps
        self._all_flows = all_flows
        self._least = 0 if all_flows else least_payload_packets(evidence)
        self._options = context
        self._context: RollingContext | None = None
        self._context_of: Model | None = None
        self.model = model
        self._threshold = threshold
        self._known: dict[_Key, _Known] = {}

    @property
    def n_open(self) -> int:
        """Flows that were decided and have not ended."""
        return len(self._known)

    def records(self, works: Sequence[Work], *, overloaded: bool = False) -> Iterator[Records]:
        """Records of some flows: first the verdicts, then the ends.

        A flow that was decided early is decided again when its verdict is due, or when it ends before that;
        if the app differs, this is a further verdict, ``revised``. Flows that end with too few payload
        packets (``least_payload_packets``) and without a verdict are skipped, as in files.

        Args:
            works: flows in the order of their arrival.
            overloaded: whether there is no time to identify any.
        """
        model, threshold = self.model, self._threshold
        found = self._sort(works, overloaded=overloaded)
        around = self._around(model)
        reported: list[VerdictBatch] = []
        for batches, early, report in (
            (found.early, True, self._report_early),
            (found.due, False, self._report),
            (found.late, False, self._report_late),
        ):
            if len(batches) > _FEW_BATCHES:
                batches = [_joined(batches, has_evidence=self._known_apps is not None)]
            if self._known_apps is None:
                pairs = flows_and_verdicts(
                    [_as_decided(flows) for flows, _ in batches],
                    model,
                    threshold,
                    early=early,
                    context=around,
                    unknown=self._unknown,
                    all_flows=self._all_flows,
                )
                reported += (report(verdicts) for _, verdicts in pairs)
                continue
            for flows, of in batches:
                found_of = replace(_found(flows, of), flows=_as_decided(flows))
                said = identify_found(
                    found_of,
                    model,
                    threshold,
                    early=early,
                    context=around,
                    known_apps=self._known_apps,
                    unknown=self._unknown,
                )
                reported += map(report, said)
        if found.overloaded:
            flows = _as_decided(FlowBatch.concat([flows for flows, _ in found.overloaded]))
            reported.append(self._report(_not_identified(flows, model, threshold)))
        for verdicts in reported:
            if len(verdicts):
                records = live_records(verdicts, VERDICT)
                yield with_link(records, None) if self._all_flows else records
        if found.ended:
            yield from self._ends(found.ended)

    def _ends(self, ended: Sequence[FlowBatch]) -> Iterator[Records]:
        """Records of ended flows, with the apps of their verdicts, and their names if the flows have none."""
        for flows in ended:
            keys = _keys(flows)
            known = [self._known.get(key) for key in keys]
            for key in keys:
                self._forget(key)
            there = flows.filter(_flags(each is not None for each in known))
            if len(there):
                said = _with_verdicts(there, [each.values for each in known if each is not None])
                records = live_records(said, END, there.column("end_reason"))
                yield with_link(records, there) if self._all_flows else records

    def _forget(self, key: _Key) -> None:
        """Forgets a flow that has ended."""
        known = self._known.get(key)
        if known is not None:
            known.n_open -= 1
            if not known.n_open:
                del self._known[key]

    def _around(self, model: Model | None) -> RollingContext | None:
        """The context of a model's flows; it restarts with another model."""
        if self._options is not None and model is not None and model is not self._context_of:
            self._context = RollingContext(self._options, model.prior)
            self._context_of = model
        return self._context

    def _sort(self, works: Sequence[Work], *, overloaded: bool) -> _Sorted:
        found = _Sorted([], [], [], [], [])
        keys_of = [_keys(work.flows) for work in works]
        settled: set[_Key] = set()
        for work, keys in zip(works, keys_of, strict=True):
            if work.kind == DECIDED:
                settled.update(keys)
        later: set[_Key] = set()
        for work, keys in zip(reversed(works), reversed(keys_of), strict=True):
            flows = work.flows
            known = [self._known.get(key) for key in keys]
            is_known = _flags(before is not None for before in known)
            if work.kind == EARLY:  # more is known of what comes again behind
                due = ~is_known & _flags(key not in later for key in keys)
            elif work.kind == DECIDED:
                due = np.ones(len(flows), dtype=bool)
            else:
                enough = flows.payload_packets >= self._least
                is_final = _flags(before is not None and not before.is_early for before in known)
                due = enough & ~is_final & _flags(key not in settled for key in keys)
                ends = enough | is_known
                if ends.any():
                    found.ended.append(flows if ends.all() else flows.filter(ends))
                if self._known_apps is not None:
                    _add(found.late, work, is_final & _is_named_late(flows, known))
            later.update(keys)
            if not (overloaded or work.is_overloaded):
                _add(found.early if work.kind == EARLY else found.due, work, due)
            elif work.kind != EARLY:  # an early verdict stands
                _add(found.overloaded, work, due & ~is_known)
        for batches in (found.early, found.due, found.overloaded, found.ended, found.late):
            batches.reverse()
        return found

    def _report_early(self, verdicts: VerdictBatch) -> VerdictBatch:
        """Reports early verdicts that are clear."""
        clear = verdicts.filter(_flags(outcome == NAMED for outcome in verdicts.values("outcome")))
        for key, values in _rows(clear):
            self._known[key] = _Known(values, is_early=True)
        return clear

    def _report(self, verdicts: VerdictBatch) -> VerdictBatch:
        """Reports verdicts that are new or differ from early ones."""
        is_new, is_revised = [], []
        for key, values in _rows(verdicts):
            before = self._known.get(key)
            is_first = before is None or not before.is_early
            differs = before is not None and before.values[_APP] != values[_APP]
            is_new.append(is_first or differs)
            is_revised.append(differs and not is_first)
            n_open = 1 if before is None or before.is_early else before.n_open + 1
            self._known[key] = _Known((*values[:-1], is_revised[-1]), is_early=False, n_open=n_open)
        if any(is_revised):
            verdicts = verdicts.with_columns(revised=is_revised)
        return verdicts if all(is_new) else verdicts.filter(_flags(is_new))

    def _report_late(self, verdicts: VerdictBatch) -> VerdictBatch:
        """Reports verdicts that differ from those on the open flow."""
        is_revised = []
        for key, values in _rows(verdicts):
            before = self._known[key]
            is_revised.append(before.values[_APP] != values[_APP])
            before.values = (*values[:-1], is_revised[-1])
        chosen = verdicts.filter(_flags(is_revised))
        return chosen.with_columns(revised=[True] * len(chosen))


def _is_named_late(flows: FlowBatch, known: Sequence[_Known | None]) -> NDArray[np.bool_]:
    """Whether ended flows have their own name although their verdicts were not based on one."""
    if not flows.has("server_name"):  # the verdict had it
        return np.zeros(len(flows), dtype=bool)
    has_name = pc.coalesce(flows.column("server_name"), flows.column("http_host")).is_valid()
    rests_on_it = _flags(
        each is not None and each.values[_EVIDENCE] == BY_NAME[0] for each in known
    )
    return np.asarray(has_name.to_numpy(zero_copy_only=False) & ~rests_on_it, dtype=bool)


def _flags(values: Iterable[bool]) -> NDArray[np.bool_]:
    return np.fromiter(values, dtype=bool)


def _add(batches: list[_Asked], work: Work, keep: NDArray[np.bool_]) -> None:
    """The wanted ones of some flows, with what evidence says of them."""
    if keep.all():
        batches.append((work.flows, work.found))
    elif keep.any():
        found = None if work.found is None else work.found.filter(keep)
        batches.append((work.flows.filter(keep) if found is None else found.flows, found))


def _joined(batches: Sequence[_Asked], *, has_evidence: bool) -> _Asked:
    """Several batches as one."""
    if not has_evidence:
        return FlowBatch.concat([flows for flows, _ in batches]), None
    found = Found.concat([_found(flows, of) for flows, of in batches])
    return found.flows, found


def _found(flows: FlowBatch, found: Found | None) -> Found:
    """What evidence says of flows, also of those whose names it was not asked about again."""
    return Found.nothing(flows) if found is None else found


def _rows(batch: VerdictBatch) -> Iterator[tuple[_Key, tuple[Any, ...]]]:
    """The values of verdicts that are remembered."""
    keys = zip(batch.values("connection_id"), batch.values("part"), strict=True)
    columns = (_values(batch, name) for name in _REMEMBERED)
    return zip(keys, zip(*columns, strict=True), strict=True)


def _values(batch: VerdictBatch, name: str) -> list[Any]:
    """Values; equal texts are one object, because many flows are remembered and have few different texts."""
    values = batch.values(name)
    if isinstance(batch.plain(name), pa.StringArray):
        return [value and intern(value) for value in values]
    return values


def _keys(flows: FlowBatch) -> list[_Key]:
    ids, parts = flows.numpy("connection_id").tolist(), flows.numpy("part").tolist()
    return list(zip(ids, parts, strict=True))


def _as_decided(flows: FlowBatch) -> FlowBatch:
    """The flows with the totals at their decision, so that a verdict is the same at any time."""
    totals = {name: flows.plain(f"decided_{name}") for name in _TOTALS}
    return flows.with_plain({"end_ns": flows.plain("decided_ns"), **totals})


def _with_verdicts(flows: FlowBatch, known: list[tuple[Any, ...]]) -> VerdictBatch:
    columns: dict[str, Any] = {
        name: None if values.count(None) == len(values) else list(values)
        for name, values in zip(_REMEMBERED, zip(*known, strict=True), strict=True)
    }
    there = set(flows.columns) - {"dns_name"}  # evidence knows it, no flow does
    columns |= {name: flows.plain(name) for name in SCHEMA.names if name in there}
    return VerdictBatch.of_columns(columns, len(flows))


def _not_identified(flows: FlowBatch, model: Model | None, threshold: float | None) -> VerdictBatch:
    """Verdicts with the outcome that there was no time."""
    packets = DECISION_SEGMENTS if model is None else model.decision_packets
    values: dict[str, Any] = {"outcome": OVERLOADED}
    if model is not None:
        values |= {
            "threshold": choose_threshold(threshold, model),
            "model": f"{model.name}@{model.hash}",
        }
    columns = {
        name: pa.repeat(pa.scalar(value, SCHEMA.field(name).type), len(flows))
        for name, value in values.items()
    }
    return decide_without_model(flows, None, packets).with_columns(**columns)


def ended_records(flows: FlowBatch, verdicts: VerdictBatch) -> Iterator[pa.RecordBatch]:
    """Records of flows of a file: their verdicts, then their ends.

    Args:
        flows: n flows that ended, with the columns ``decided_...`` and ``end_reason``.
        verdicts: on each of them.
    """
    decided = {name: flows.column(f"decided_{name}") for name in _TOTALS}
    decided["end_ns"] = flows.column("decided_ns")
    yield live_records(verdicts.with_columns(**decided), VERDICT).to_arrow()
    yield live_records(verdicts, END, flows.column("end_reason")).to_arrow()
