"""Captures or records of verdicts in, flows with what a model and their names say of them out.

``discover`` looks at flows that the model calls unknown or declines, beside all others. In captures the model
is asked about every flow, also about those that their names identify, and names are kept as evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apptell.catalogue import Catalogue
from apptell.encoding.lengths import lengths
from apptell.errors import CaptureError, UsageError
from apptell.flows import FlowOptions
from apptell.names import read_flows
from apptell.names.certificates import certificate_names
from apptell.verdicts import Evidence, EvidenceOptions, identify_flows
from apptell.verdicts.context import ContextOptions, reweigh_all, times_of
from apptell.verdicts.pipeline import MIN_PAYLOAD_PACKETS, choose_threshold
from apptell.verdicts.schema import BELOW_THRESHOLD, UNKNOWN
from apptell.verdicts.unlearned import extended
from apptell.watch.observations import Observations
from apptell.watch.observed_sources import RATE
from apptell.watch.record_sources import are_records, read_all_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from apptell.flows import FlowBatch
    from apptell.models import Model

MOST_FLOWS: Final = 400_000
"""Flows of captures that are held at once at most: each with its encoded inputs."""
_TEXTS: Final = (
    *("capture", "client_address", "server_address", "server_name", "http_host", "dns_name"),
    *("alpn", "ja4", "app", "service", "service_kind", "evidence", "community_id"),
    "certificate_names",
)
_NUMBERS: Final = ("start_ns", "client_port", "server_port", "protocol")
SCHEMA: Final = pa.schema(
    {**dict.fromkeys(_TEXTS, pa.string()), **dict.fromkeys(_NUMBERS, pa.int64())}
)
"""What is known of each flow beside the model's verdict.

``app`` rests on names, certificates and addresses only. ``certificate_names`` are joined by commas, and null
for records, which have none.
"""
_TRANSPORTS: Final = pa.array(["tcp", "udp"], pa.string())
_TRANSPORT_NUMBERS: Final = pa.array([6, 17], pa.int64())
_BY_NAMES: Final = pa.array(["name", "dns", "address", "range"], pa.string())


@dataclass(frozen=True, slots=True)
class WatchedTraffic:
    """n flows under a model of k apps."""

    table: pa.Table
    """Columns of SCHEMA, n rows."""
    probabilities: NDArray[np.float32]
    """Shape (n, k); zeros where the model was not asked."""
    unknown_share: NDArray[np.float32]
    """Probability of an unlearned app, by the client's flows too, shape (n,)."""
    is_strange: NDArray[np.bool_]
    """Whether the model calls the flow unknown or declines it, shape (n,)."""
    verdict: NDArray[np.int64]
    """Number of the likeliest app, by the client's flows too, shape (n,)."""
    usual_strange: float
    """Share of held-out flows of known apps that the model called unknown or declined."""
    clients: NDArray[np.int64]
    """Number of the client of each flow, shape (n,)."""
    times_ns: NDArray[np.int64]
    """Shape (n,)."""
    inputs: NDArray[Any] | None = None
    """Of the model, shape (n, ...); None for records."""
    lengths: NDArray[np.float32] | None = None
    """Signed payload lengths, shape (n, packets); None for records."""

    def __len__(self) -> int:
        return len(self.times_ns)

    @property
    def guess(self) -> NDArray[np.int64]:
        """The model's likeliest app, shape (n,)."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)


def gather(
    sources: Sequence[str], model: Model, catalogue: Catalogue | None = None
) -> WatchedTraffic:
    """Asks a model about the flows of captures, or reads what it said earlier from records.

    Args:
        sources: captures and folders of captures, or files and archives of records; not both.
        model: trained to recognise unknown apps.
        catalogue: what names are looked up in; the shipped one by default.

    Raises:
        UsageError: captures and records together, nothing, standard input, too many flows, or a model that
            cannot recognise unknown apps.
        CaptureError: a source cannot be read, or is damaged.
    """
    model.require_unknown()
    if are_records(sources):
        return _of_records(sources, model)
    if "-" in sources:
        raise UsageError("captures are read twice here, so standard input cannot be one of them")
    return _of_captures(list(sources), model, catalogue or Catalogue.load())


def _of_captures(sources: list[str], model: Model, catalogue: Catalogue) -> WatchedTraffic:
    asked = _Asked(model)
    options = FlowOptions(transports=model.transports, decision_packets=model.decision_packets)
    with read_flows(sources, options) as reader:
        for flows in reader:
            asked.add(flows)
    if not asked.keys:
        raise CaptureError(f"{', '.join(sources)}: no flow has two payload packets")
    evidence = Evidence(catalogue, EvidenceOptions.parse("name,dns"))
    known: dict[tuple[Any, ...], int] = {}
    tables: list[pa.Table] = []
    with read_flows(sources, options, observer=evidence) as reader:
        for verdicts in identify_flows(reader, None, evidence=evidence):
            batch = pa.Table.from_batches([verdicts.to_arrow()])
            start = len(known)
            known |= {key: start + row for row, key in enumerate(_keys(batch))}
            tables.append(_columns(batch))
    names = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    place = [known.get(key) for key in asked.keys]
    if None in place:
        raise CaptureError(f"{', '.join(sources)}: changed while it was read")
    named = names.take(pa.array(place, pa.int64()))
    return asked.traffic(_with_certificates(named, asked.certificates, catalogue))


def _with_certificates(
    table: pa.Table, certificates: Sequence[tuple[str, ...]], catalogue: Catalogue
) -> pa.Table:
    """The table with names in certificates, and with the app of those that the catalogue gives to one app."""
    app_of = {names: _app_of(names, catalogue) for names in set(certificates)}
    joined = pa.array([",".join(names) or None for names in certificates], pa.string())
    apps = pa.array([app_of[names] for names in certificates], pa.string())
    columns = dict(zip(table.column_names, table.columns, strict=True))
    columns |= {"certificate_names": joined, "app": pc.coalesce(columns["app"], apps)}
    return pa.table(columns, schema=SCHEMA)


def _app_of(names: tuple[str, ...], catalogue: Catalogue) -> str | None:
    """The one app that the catalogue gives names of a certificate to; None for none or several."""
    apps = {catalogue.lookup(name.removeprefix("*.")).app for name in names} - {None}
    return apps.pop() if len(apps) == 1 else None


class _Asked:
    """The flows of captures that a model was asked about."""

    def __init__(self, model: Model) -> None:
        self.keys: list[tuple[Any, ...]] = []
        self.certificates: list[tuple[str, ...]] = []
        """The names in each flow's certificate."""
        self._model = model
        self._packets = model.require_unknown().packets
        self._parts: list[tuple[NDArray[Any], ...]] = []
        self._clients: list[tuple[str | None, str | None]] = []

    def add(self, flows: FlowBatch) -> None:
        """Asks about some flows.

        Raises:
            UsageError: there are more than MOST_FLOWS.
        """
        enough = flows.payload_packets >= MIN_PAYLOAD_PACKETS
        enough &= np.isin(flows.numpy("protocol"), self._model.transports)
        flows = flows.filter(enough)
        if len(self.keys) + len(flows) > MOST_FLOWS:
            raise UsageError(f"the captures have more than {MOST_FLOWS:,} flows; give fewer")
        said = self._model.predict_with_unknown(flows)
        self._parts.append(
            (
                said.probabilities,
                said.unknown_share,
                times_of(flows),
                self._model.encode(flows),
                lengths(flows, packets=self._packets),
            )
        )
        batch = pa.Table.from_batches([flows.to_arrow()])
        self.keys += _keys(batch)
        self.certificates += certificate_names(flows)
        both = (batch[name].to_pylist() for name in ("capture", "client_address"))
        self._clients += zip(*both, strict=True)

    def traffic(self, table: pa.Table) -> WatchedTraffic:
        """All of them, in the context of their clients."""
        model = self._model
        p, share, times, inputs, sizes = map(np.concatenate, zip(*self._parts, strict=True))
        both, prior = extended(p, model.prior, share)
        keys = [None if client[1] is None else client for client in self._clients]
        weighed, _ = reweigh_all(keys, times, both, prior, ContextOptions())
        unusual = model.require_unknown().ranks_in_context(weighed[:, -1])
        is_strange = unusual >= np.float32(1 - RATE)
        is_strange |= weighed[:, :-1].max(axis=1) < choose_threshold(None, model)
        return WatchedTraffic(
            table,
            p,
            weighed[:, -1],
            is_strange,
            weighed[:, :-1].argmax(axis=1),
            usual_strange(model.held_out),
            _numbered(self._clients),
            times,
            inputs,
            sizes,
        )


def usual_strange(held_out: Mapping[str, Mapping[str, float]]) -> float:
    """The share of held-out flows that were unknown or declined, by what ``Model.held_out`` gives; else 0.2."""
    n = sum(each["flows"] for each in held_out.values())
    if not n:
        return 0.2
    both = sum(each["flows"] * (each["unknown"] + each["declined"]) for each in held_out.values())
    return both / n


def _of_records(sources: Sequence[str], model: Model) -> WatchedTraffic:
    tables = read_all_records(sources)
    try:
        parts = [_columns(table) for table in tables]
        asked = [pc.is_in(each["best_guess"], pa.array(model.apps, pa.string())) for each in tables]
        outcome = pa.concat_arrays(
            [chunk for each in tables for chunk in each["outcome"].cast(pa.string()).chunks]
        )
        seen = Observations.of_records(tables, model.apps)
    except (KeyError, pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise CaptureError(f"{sources[0]}: these are not records of verdicts: {error}") from error
    table = pa.concat_tables(parts)
    is_asked = np.concatenate([flags.to_numpy() for flags in asked])
    n = len(table)
    if n > MOST_FLOWS:
        raise UsageError(f"there are more than {MOST_FLOWS:,} records; give fewer")
    probabilities = np.zeros((n, len(model.apps)), dtype=np.float32)
    probabilities[is_asked] = seen.probabilities
    is_unknown = np.asarray(pc.fill_null(pc.equal(outcome, UNKNOWN), False))
    is_declined = np.asarray(pc.fill_null(pc.equal(outcome, BELOW_THRESHOLD), False))
    times = np.concatenate([_times(each) for each in tables])
    clients = list(zip(*(table[name].to_pylist() for name in SCHEMA.names[:2]), strict=True))
    return WatchedTraffic(
        table,
        probabilities,
        is_unknown.astype(np.float32),
        (is_unknown | is_declined) & is_asked,
        probabilities.argmax(axis=1),
        usual_strange(model.held_out),
        _numbered(clients),
        times,
    )


def _times(table: pa.Table) -> NDArray[np.int64]:
    column = "start_ns" if "start_ns" in table.column_names else "time"
    values = table[column]
    if column == "time":
        values = values.cast(pa.timestamp("ns", "UTC"))
    return np.asarray(values.cast(pa.int64()).to_numpy(), dtype=np.int64)


def _keys(table: pa.Table) -> list[tuple[Any, ...]]:
    names = ("capture", "connection_id", "part")
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def _columns(table: pa.Table) -> pa.Table:
    """The columns of SCHEMA; an app that only a model named is none."""
    there = set(table.column_names)
    if "protocol" in there and not pa.types.is_integer(table.schema.field("protocol").type):
        place = table.column_names.index("protocol")
        number = pc.index_in(table["protocol"].cast(pa.string()), _TRANSPORTS)
        table = table.set_column(place, "protocol", pc.take(_TRANSPORT_NUMBERS, number))
    columns = {
        field.name: table[field.name].cast(field.type)
        if field.name in there
        else pa.nulls(len(table), field.type)
        for field in SCHEMA
    }
    columns["start_ns"] = pa.array(_times(table))
    by_names = pc.fill_null(pc.is_in(columns["evidence"], _BY_NAMES), False)
    columns["app"] = pc.if_else(by_names, columns["app"], pa.scalar(None, pa.string()))
    return pa.table(columns, schema=SCHEMA)


def _numbered(clients: Sequence[tuple[str | None, str | None]]) -> NDArray[np.int64]:
    """A number for each client; flows without an address are separate clients."""
    numbers: dict[Any, int] = {}
    found = [
        numbers.setdefault((row,) if client[1] is None else client, len(numbers))
        for row, client in enumerate(clients)
    ]
    return np.array(found, dtype=np.int64)
