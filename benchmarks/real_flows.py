"""All flows of real captures whose app is known, with their sources: what ``sources.py`` measures on.

Three collections, each below CAPTURES:

* ``messengers/<source>/<app>.pcap.gz``: every flow is the app's; ``other`` is background of the same hosts.
* ``real/<source>/<app>.pcap.gz`` with the truth of each flow in ``flows.csv``, which comes from names. A flow
  without truth is left out; a flow of an app that is not among the six is background.
* ``ndpi/*.pcap``: captures whose file name has one of the six apps in it. A flow counts where names, DNS or
  address ranges say that same app; each file is a source.

Sources that hold the same connection (one person gave captures to two collections) count as one source.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset import Dataset, Selection
from apptell.dataset.groups import origins
from apptell.dataset.masking import mask_server_names
from apptell.evaluation.by_source import link_sources
from apptell.evaluation.figures import slices_of
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.learning.task import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIX: Final = ("discord", "signal", "skype", "teams", "whatsapp", "zoom")
OTHER: Final = "other"
SETS: Final = ("messengers", "real", "ndpi")
_TRANSPORTS: Final = {6: "tcp", 17: "udp"}


def is_untouched(source: str) -> bool:
    """Whether a source of ``real`` is in the untouched half, by the rule of docs/reports/protocol.md."""
    return bool(hashlib.sha256(f"real/{source}".encode()).digest()[0] & 1)


@dataclass(frozen=True)
class RealFlows:
    """Flows of the six apps and background, shape (n,) or (n, ...)."""

    structure: NDArray[np.uint16]
    """Inputs of ``fast`` and ``fusion`` with all views and name keys."""
    masked: NDArray[np.uint16]
    """The same with names masked."""
    statistics: NDArray[np.float32]
    app: NDArray[np.str_]
    source: NDArray[np.str_]
    collection: NDArray[np.str_]
    is_late: NDArray[np.bool_]
    """TLS over TCP that begins without a hello."""
    key: NDArray[np.str_]
    """Names a connection by its server, ports and second."""

    def __len__(self) -> int:
        return len(self.app)

    def take(self, rows: NDArray[Any]) -> RealFlows:
        """Some of them."""
        return RealFlows(*(getattr(self, each.name)[rows] for each in fields(self)))

    @staticmethod
    def join(parts: list[RealFlows]) -> RealFlows:
        """All of several, with sources that share a connection made one."""
        columns = (
            np.concatenate([getattr(part, each.name) for part in parts])
            for each in fields(RealFlows)
        )
        return _linked(RealFlows(*columns))


def read_real_flows(
    captures: Path, results: Path, *, collections: tuple[str, ...] = SETS, untouched: bool = False
) -> RealFlows:
    """Flows of some collections; datasets are built below ``results`` where they are not there.

    Args:
        captures: the folder of the collections.
        results: where datasets are kept.
        collections: names of SETS.
        untouched: the untouched half of ``real`` instead of the development half.
    """
    return RealFlows.join([_read(captures, results, name, untouched) for name in collections])


def _read(captures: Path, results: Path, name: str, untouched: bool) -> RealFlows:
    half = f"{name}-{'untouched' if untouched else 'development'}" if name == "real" else name
    links = results / f"{half}-captures"
    for path in sorted((captures / name).rglob("*.pcap*")):
        inside = path.relative_to(captures / name)
        if name == "real" and is_untouched(inside.parts[0]) != untouched:
            continue
        if name == "ndpi":
            if _app_in_name(path.name) is None:
                continue
            inside = Path(path.name.split(".")[0]) / path.name
        link = links / inside
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    folder = results / half
    if not (folder / "dataset.json").is_file():
        flows = FlowOptions(transports=(6, 17), groups=tuple(GROUPS))
        kind = "names" if name == "ndpi" else "folders"
        Dataset.build([links], folder, labels=kind, views="none", flows=flows)
    chosen = Selection.of(Dataset.open(folder))
    labels = [str(each).split("/")[0] for each in chosen.flows.column("label").to_pylist()]
    if name == "real":
        apps = _truth(captures / name / "flows.csv", chosen, labels)
    elif name == "ndpi":
        files = chosen.flows.column("capture").to_pylist()
        in_name = [_app_in_name(str(each).rsplit("/", 1)[-1]) for each in files]
        apps = [a if a == b else "" for a, b in zip(labels, in_name, strict=True)]
    else:
        apps = labels
    app = np.array(apps, dtype="U16")
    enough = np.asarray(chosen.flows.payload_packets >= 2) & (app != "")
    return _encoded(chosen.filter(enough), app[enough], name)


def _encoded(chosen: Selection, app: NDArray[np.str_], name: str) -> RealFlows:
    fast, forest = Task("fast"), Task("paper-rf")
    hello = next(v for k, v in slices_of(chosen).items() if "hello" in k)
    columns = ("server_address", "server_port", "client_port", "protocol", "start_ns")
    ends = zip(*(chosen.flows.column(each).to_pylist() for each in columns), strict=True)
    return RealFlows(
        fast.encode(chosen, views=True),
        fast.encode(chosen, mask_server_names, views=True),
        forest.encode(chosen),
        app,
        np.array([f"{name}/{each}" for each in origins(chosen.flows)], dtype="U64"),
        np.full(len(app), name, dtype="U16"),
        np.asarray(hello == "mid-session"),
        np.array([" ".join(map(str, (*e[:4], e[4] // 10**9))) for e in ends], dtype="U96"),
    )


def _app_in_name(name: str) -> str | None:
    """The one of the six apps that a file's name has in it."""
    text = name.lower().replace("teamspeak", "").replace("false_positive", "")
    return next((app for app in SIX if app in text and "dnscrypt" not in text), None)


def _truth(file: Path, chosen: Selection, labels: list[str]) -> list[str]:
    """The app of each flow as flows.csv knows it; empty where it does not."""
    table: dict[tuple[Any, ...], list[tuple[float, str]]] = defaultdict(list)
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            ends = ("client", "client_port", "server", "server_port")
            key = (row["source"], row["app"], row["transport"], *(row[each] for each in ends))
            table[key].append((float(row["start"]), row["truth"]))
    flows = chosen.flows
    names = ("protocol", "client_address", "client_port", "server_address", "server_port")
    columns = [flows.column(each).to_pylist() for each in (*names, "start_ns")]
    found = []
    for source, label, *rest in zip(origins(flows), labels, *columns, strict=True):
        protocol, client, client_port, server, server_port, start_ns = rest
        both = ((client, str(client_port)), (server, str(server_port)))
        truth = ""
        for first, second in (both, both[::-1]):
            key = (str(source), label, _TRANSPORTS[protocol], *first, *second)
            if key in table:
                truth = min(table[key], key=lambda each: abs(each[0] - start_ns / 1e9))[1]
                break
        found.append(truth if truth in SIX or not truth else OTHER)
    return found


def _linked(flows: RealFlows) -> RealFlows:
    """The flows, each connection once, and sources that share one named as one."""
    source, first = link_sources(flows.source, flows.key)
    return replace(flows, source=source).take(first)
