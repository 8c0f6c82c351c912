"""Finds the servers that many apps share, and moves or drops the flows to them.

Advertising, analytics and push servers are used by many apps: a flow to them says nothing about its app,
whatever its label. A service is a registered domain, or an address where no name was seen.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from apptell.dataset.change import is_same_folder, rewrite
from apptell.dataset.classes import OTHER, SYSTEM, app_of
from apptell.dataset.groups import domains, follow, is_late_view, servers
from apptell.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from apptell.dataset.store import Dataset
    from apptell.flows.schema import FlowBatch

DEFAULT_LEAST: Final = 3
"""Number of apps that must use a service for it to be shared."""
_COLUMNS: Final = ("core", "names", "labels")
SERVICES: Final = pa.schema(
    {
        "app": pa.string(),
        "server": pa.string(),  # name, else address
        "service": pa.string(),  # registered domain, else address
        "flows": pa.int64(),
        "apps": pa.int64(),  # apps that talk to the service, background not counted
        "is_shared": pa.bool_(),
        "contradicts": pa.string(),  # the other app whose name the server bears; null: none
    }
)
# Words of package names that name no app.
_WORDLESS: Final = frozenset(
    [
        "android",
        "mobile",
        "mobil",
        "client",
        "messenger",
        "main",
        "lite",
        "google",
        "apps",
        "application",
        "katana",
        "online",
        "player",
        "phone",
        "free",
        "live",
        "social",
    ]
)


def service_table(data: Dataset, least: int = DEFAULT_LEAST) -> pa.Table:
    """Which app talks to which server how often: one row per app and server, columns SERVICES.

    Args:
        data: the dataset; its server names make services, its addresses where there is no name. Late views
            are not counted.
        least: apps that make a service a shared one.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    for batch in data.batches(_COLUMNS):
        batch = batch.filter(~is_late_view(batch))
        counts.update(zip(_apps(batch), servers(batch), domains(batch), strict=True))
    users: defaultdict[str, set[str]] = defaultdict(set)
    for app, _, service in counts:
        if app not in (OTHER, SYSTEM):
            users[service].add(app)
    words = {app: _words(app) for app in data.apps if app not in (OTHER, SYSTEM)}
    rows = [
        {
            "app": app,
            "server": server,
            "service": service,
            "flows": n,
            "apps": len(users[service]),
            "is_shared": len(users[service]) >= least,
            "contradicts": _contradiction(app, str(server), words),
        }
        for (app, server, service), n in sorted(
            counts.items(), key=lambda item: (item[0][0], -item[1], str(item[0][1]))
        )
    ]
    return pa.Table.from_pylist(rows, schema=SERVICES)


def shared_services(data: Dataset, least: int = DEFAULT_LEAST) -> set[str]:
    """Services that at least so many apps talk to."""
    table = service_table(data, least)
    chosen = table.filter(table.column("is_shared")).column("service").to_pylist()
    return {service for service in chosen if service is not None}


def move_shared(
    data: Dataset,
    path: str | Path,
    shared: str,
    least: int = DEFAULT_LEAST,
    *,
    replace: bool = False,
) -> Dataset:
    """The dataset with the flows to shared services moved to ``other``, or left out, with their late views.

    Args:
        data: what is changed.
        path: the folder of the result; may be the dataset's own.
        shared: ``keep``, ``other`` or ``drop``.
        least: apps that make a service a shared one.
        replace: replace another existing dataset.

    Raises:
        DatasetError: another dataset already exists.
        UsageError: ``shared`` is not keep, other or drop.
    """
    if shared not in ("keep", "other", "drop"):
        raise UsageError(f"shared services {shared!r}: choose keep, other or drop")
    services = set() if shared == "keep" else shared_services(data, least)

    def is_hit(batch: FlowBatch) -> NDArray[np.bool_]:
        hit = np.array([service in services for service in domains(batch)], dtype=bool)
        hit &= np.array([app != SYSTEM for app in _apps(batch)], dtype=bool)
        return hit

    moved = [np.zeros(0, dtype=np.uint64)]
    if services and data.info["late_views"]:
        for batch in data.batches(_COLUMNS):
            rows = is_hit(batch) & ~is_late_view(batch)
            moved.append(batch.filter(rows).numpy("connection_id"))
    connections = np.unique(np.concatenate(moved))

    def change(batch: FlowBatch) -> FlowBatch:
        hit = is_hit(batch)
        follow(batch, hit, connections)
        return batch.filter(~hit) if shared == "drop" else relabel(batch, hit, OTHER)

    listed = ", ".join(sorted(services)[:20])
    edit = f"flows to {len(services)} services that {least} apps or more share: {shared} ({listed})"
    replace = replace or is_same_folder(data.path, path)
    return rewrite(data, path, change, edit, replace=replace)


def system_as(flows: FlowBatch, kind: str) -> FlowBatch:
    """Flows labelled ``system`` as ``other``, or left out (``drop``)."""
    hit = np.array([app == SYSTEM for app in _apps(flows)], dtype=bool)
    return flows.filter(~hit) if kind == "drop" else relabel(flows, hit, OTHER)


def relabel(
    flows: FlowBatch, rows: np.ndarray[tuple[int], np.dtype[np.bool_]], label: str
) -> FlowBatch:
    """The flows, those where ``rows`` is true with another label."""
    old = np.asarray(flows.column("label").to_pylist(), dtype=object)
    return flows.with_columns(label=pa.array(np.where(rows, label, old), pa.string()))


def _apps(flows: FlowBatch) -> list[str]:
    return [app_of(label) for label in flows.column("label").to_pylist()]


def _words(app: str) -> set[str]:
    """The words of a label or package that tell the app, at least four letters each."""
    words = re.split(r"[^a-z0-9]+", app.lower())
    return {word for word in words if len(word) >= 4 and word not in _WORDLESS}


def _contradiction(app: str, server: str, words: dict[str, set[str]]) -> str | None:
    """The app whose name is a part of the server's, when its own is not."""
    parts = set(re.split(r"[^a-z0-9]+", server.lower()))
    own = words.get(app, set())
    if app in (OTHER, SYSTEM) or own & parts:
        return None
    return min(_others(app, own, parts, words), default=None)


def _others(app: str, own: set[str], parts: set[str], words: dict[str, set[str]]) -> Iterable[str]:
    return (other for other, names in words.items() if other != app and (names - own) & parts)
