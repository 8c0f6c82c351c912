"""Describes a cluster of flows as a candidate for an app: evidence, size, clients, times and a suggested name.

Evidence is what the flows share more often than other traffic: registered domains, DNS names, names in
servers' certificates, services of the catalogue, JA4s and ports, in the order of their lift (the ratio of the
two shares).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.catalogue import Catalogue
from apptell.names.domains import registered_domain
from apptell.watch.clusters import find_clusters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from apptell.watch.traffic import WatchedTraffic

KINDS: Final = ("domain", "dns", "certificate", "service", "ja4", "port")
"""Kinds of evidence.

Registered domain of the server's name, DNS name, name in the server's certificate (of captures, up to TLS 1.2),
service of the catalogue, JA4, port.
"""
MOST_EVIDENCE: Final = 10
"""Values of each kind that a candidate lists."""
_LEAST_SHARE: Final = 0.05
"""Of a candidate's flows that a value needs, and at least two flows."""
_NAMED_SHARE: Final = 0.2
"""Of a candidate's flows that the catalogue must give to an app for the candidate to be proposed as it."""
_LONGEST: Final = 200
_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Evidenced:
    """A value that flows of a candidate have."""

    kind: str
    """One of KINDS."""
    value: str
    flows: int
    """Of the candidate that have it."""
    others: int
    """Flows of other traffic that have it."""
    lift: float
    """Share among the candidate's flows over the share among other flows, with half a flow added to each."""


@dataclass(frozen=True, slots=True)
class AppCandidate:
    """A cluster of flows that may be of one app."""

    number: int
    """From 1, the largest first."""
    rows: NDArray[np.int64]
    """Its flows in the traffic."""
    flows: int
    clients: int
    first: str
    """Time of its first flow, ISO 8601."""
    last: str
    """Time of its last flow."""
    name: str
    """What it is proposed as, lower case."""
    named_by: str
    """What it is named by.

    ``catalogue``: names that the catalogue lists; ``domain``: its first domain; ``certificate``: the domain of
    the first name in certificates; ``number``: nothing.
    """
    named_flows: int
    """Flows whose names the catalogue gives to the proposed app."""
    is_known: bool
    """Whether the model already has an app of that name."""
    guesses: Mapping[str, int]
    """The model's likeliest apps of its flows, and how often each is."""
    evidence: tuple[Evidenced, ...]
    """By lift, the largest first."""

    def of_kind(self, kind: str) -> list[Evidenced]:
        """The evidence of one kind, by lift."""
        return [each for each in self.evidence if each.kind == kind]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "candidate": self.number,
            "name": self.name,
            "named_by": self.named_by,
            "named_flows": self.named_flows,
            "known_to_model": self.is_known,
            "flows": self.flows,
            "clients": self.clients,
            "first": self.first,
            "last": self.last,
            "guesses": dict(self.guesses),
            "evidence": [
                {
                    "kind": each.kind,
                    "value": each.value,
                    "flows": each.flows,
                    "others": each.others,
                    "lift": round(each.lift, 2),
                }
                for each in self.evidence
            ],
        }


def find_candidates(
    traffic: WatchedTraffic,
    apps: Sequence[str],
    seed: int = 0,
    catalogue: Catalogue | None = None,
) -> tuple[list[AppCandidate], bool]:
    """The candidates in some traffic, the largest first, and whether several apps run at once.

    Args:
        traffic: n flows.
        apps: of the model.
        seed: of random choices.
        catalogue: of apps; the shipped one by default.

    Raises:
        MissingError: scikit-learn is not installed.
    """
    label, mixed = find_clusters(traffic, seed)
    values = _values(traffic)
    catalogue = catalogue or Catalogue.load()
    clusters = [np.flatnonzero(label == n) for n in range(int(label.max(initial=-1)) + 1)]
    named: dict[str | int, list[NDArray[np.int64]]] = {}
    for number, rows in enumerate(clusters):
        named.setdefault(_listed(traffic, rows, catalogue) or number, []).append(rows)
    merged = [(app, np.sort(np.concatenate(parts))) for app, parts in named.items()]
    merged.sort(key=lambda each: -len(each[1]))
    found: list[AppCandidate] = []
    taken = Counter[str]()
    for number, (app, rows) in enumerate(merged, 1):
        is_other = ~traffic.is_strange
        is_other[rows] = False
        evidence = _by_lift(values, rows, np.flatnonzero(is_other))
        if isinstance(app, str):
            name, named_by = app, "catalogue"
        else:
            name, named_by = _name(evidence, number)
            taken[name] += 1
            name = f"{name}-{taken[name]}" if taken[name] > 1 else name
        best = Counter(apps[each] for each in traffic.guess[rows].tolist())
        times = traffic.times_ns[rows]
        found.append(
            AppCandidate(
                number,
                rows,
                len(rows),
                len(np.unique(traffic.clients[rows])),
                _moment(int(times.min())),
                _moment(int(times.max())),
                name,
                named_by,
                _texts(traffic, "app", rows).count(name),
                name in apps,
                dict(best.most_common(MOST_EVIDENCE)),
                evidence,
            )
        )
    return found, mixed


def _texts(traffic: WatchedTraffic, name: str, rows: NDArray[np.int64]) -> list[str | None]:
    found: list[str | None] = traffic.table[name].take(rows).to_pylist()
    return found


def _values(traffic: WatchedTraffic) -> dict[str, NDArray[Any]]:
    """The values of each kind of evidence for each flow, objects: tuples of text; shape (n,) each."""
    table = traffic.table
    columns = {name: table[name].to_pylist() for name in table.column_names}
    hosts = [
        server or host or dns
        for server, host, dns in zip(
            columns["server_name"], columns["http_host"], columns["dns_name"], strict=True
        )
    ]
    domain = {host: registered_domain(host) for host in set(hosts) if host}
    transport = {6: "tcp", 17: "udp"}
    listed = [
        service if kind not in (None, "unlisted") else None
        for service, kind in zip(columns["service"], columns["service_kind"], strict=True)
    ]
    ports = [
        None if port is None else f"{transport.get(protocol, protocol)}/{port}"
        for protocol, port in zip(columns["protocol"], columns["server_port"], strict=True)
    ]
    return {
        "domain": _objects(domain.get(host) if host else None for host in hosts),
        "dns": _objects(columns["dns_name"]),
        "certificate": _objects(columns["certificate_names"], separator=","),
        "service": _objects(listed),
        "ja4": _objects(columns["ja4"]),
        "port": _objects(ports),
    }


def _objects(values: Iterable[str | None], separator: str | None = None) -> NDArray[Any]:
    parts = [
        () if value is None else tuple(value.split(separator)) if separator else (value,)
        for value in values
    ]
    cut = (tuple(each[:_LONGEST] for each in part) for part in parts)
    return np.fromiter(cut, dtype=object, count=len(parts))


def _by_lift(
    values: Mapping[str, NDArray[Any]], rows: NDArray[np.int64], others: NDArray[np.int64]
) -> tuple[Evidenced, ...]:
    found: list[Evidenced] = []
    for kind in KINDS:
        own = Counter(chain.from_iterable(values[kind][rows].tolist()))
        rest = Counter(
            value for value in chain.from_iterable(values[kind][others].tolist()) if value in own
        )
        least = max(2.0, _LEAST_SHARE * len(rows))
        lifts = [
            Evidenced(
                kind,
                value,
                n,
                rest[value],
                (n + 0.5) / (len(rows) + 1) * (len(others) + 1) / (rest[value] + 0.5),
            )
            for value, n in own.items()
            if n >= least
        ]
        lifts.sort(key=lambda each: (-each.lift, -each.flows, each.value))
        found += lifts[:MOST_EVIDENCE]
    return tuple(sorted(found, key=lambda each: (-each.lift, KINDS.index(each.kind))))


def _listed(traffic: WatchedTraffic, rows: NDArray[np.int64], catalogue: Catalogue) -> str | None:
    """The app that the catalogue gives enough of the flows to; clusters of one app are one candidate."""
    named = Counter(app for app in _texts(traffic, "app", rows) if app)
    if not named:
        return None
    app, count = min(named.items(), key=lambda item: (-item[1], item[0]))
    return app if count >= max(2.0, _NAMED_SHARE * len(rows)) and app in catalogue.apps else None


def _name(evidence: Sequence[Evidenced], number: int) -> tuple[str, str]:
    """What a candidate that the catalogue does not list is proposed as, and by what."""
    for kind in ("domain", "certificate"):
        for each in evidence:
            if each.kind == kind and each.lift > 1:
                domain = registered_domain(each.value.removeprefix("*.")) or ""
                word = re.sub(r"[^a-z0-9-]", "", domain.partition(".")[0]).strip("-")
                if word:
                    return word[:40], kind
    return f"unknown-{number}", "number"


def _moment(time_ns: int) -> str:
    try:
        return datetime.fromtimestamp(time_ns / _SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "unknown"
