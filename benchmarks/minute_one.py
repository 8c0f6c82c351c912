r"""Measures how much of real traffic apptell identifies as installed, and how accurately.

    python benchmarks/minute_one.py real=CAPTURES/real messengers=CAPTURES/messengers \
        android=CAPTURES/android ndpi=CAPTURES/ndpi -o minute_one.json [--listed CONTRADICTIONS.csv]

Each set of captures is ``KIND=FOLDER``. The kind says where truth comes from:

* ``real``: ``<source>/<app>.pcap.gz`` with the truth of each flow in ``flows.csv``; there, ``other`` is a
    flow that certainly does not belong to the capture's app.
* ``messengers``: ``<source>/<app>.pcap.gz``; all flows of a capture are the app's, ``other`` is background.
* ``android``, ``ndpi``: the name of a capture has the name of an app in it. That says nothing about single
    flows, because the phone's own traffic is among them. Flows are distinguished only by their verdicts.

Of each flow with truth: right; related (another app of the same provider is named); wrong (an app of another
provider is named); service (its name is known and names no app); nothing. Teams and Skype count as one app:
they share servers. Shares come with 95 % intervals from a bootstrap over sources. ``before`` is the embedded
model alone on TCP, which is what ``apptell identify`` did before it knew names. The shipped catalogue must
not be changed because of these results; ``--listed`` writes the contradictions between names and truth to a
file outside the project, for review.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.catalogue import Catalogue
from apptell.errors import ApptellError
from apptell.flows import FlowOptions
from apptell.models import load_model
from apptell.names import read_flows
from apptell.verdicts import Evidence, EvidenceOptions, identify_flows

if TYPE_CHECKING:
    from collections.abc import Iterator

RIGHT, RELATED, WRONG, SERVICE, NOTHING = "right", "related", "wrong", "service", "nothing"
OUTCOMES = (RIGHT, RELATED, WRONG, SERVICE, NOTHING)
OTHER = "other"
SAME = {"skype": "teams"}
"""Apps that count as another: they share servers."""
CALLED = {
    "facebook-messenger": "messenger",
    "kb-klic": "kb-cz",
    "mobilni-banka": "kb-cz",
    "mujvlak": "cd-mujvlak",
}
"""Apps that have another name in the truth than in the catalogue."""
ROUNDS = 1000
"""Draws of the bootstrap."""
PROTOCOLS = {6: "tcp", 17: "udp"}
LABEL_WORDS = {
    RIGHT: "the app in the capture's name",
    RELATED: "another app of its provider",
    WRONG: "another app",
}
"""What an outcome means where only the capture's name is known."""
ENDINGS = (".pcap", ".pcapng", ".cap")


@dataclass(frozen=True, slots=True)
class Seen:
    """A flow with its truth and its verdict."""

    source: str
    capture: str
    """The app that the capture is of."""
    truth: str | None
    """The app; OTHER; None where it is not known."""
    said: dict[str, Any]
    """The verdict."""
    is_related: bool = False
    """Whether the app that was named and the true one are of one provider."""

    @property
    def outcome(self) -> str:
        """How it was named."""
        app = self.said["app"]
        if app is None or app == OTHER:
            return SERVICE if self.said["service"] else NOTHING
        if one(app) == self.truth:
            return RIGHT
        return RELATED if self.is_related else WRONG

    @property
    def size(self) -> int:
        """IP bytes in both directions."""
        return int(self.said["bytes_to_server"] + self.said["bytes_to_client"])


def one(app: str) -> str:
    """The name under which an app counts."""
    return SAME.get(app, app)


def captures(folder: Path) -> list[Path]:
    """The captures below a folder, in order."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not set(path.suffixes).isdisjoint(ENDINGS))


def verdicts(path: Path, decide: Any) -> list[dict[str, Any]]:
    """Verdicts on the flows of a capture, also where it is damaged later."""
    evidence, model, transports = decide()
    options = FlowOptions(transports=transports, groups=("core", "segments", "names"))
    rows: list[dict[str, Any]] = []
    try:
        with read_flows(path, options, observer=evidence) as reader:
            for batch in identify_flows(reader, model, evidence=evidence):
                rows += batch.to_arrow().to_pylist()
    except ApptellError:
        pass
    return rows


class Truth:
    """What is true of the flows of one set of captures."""

    def __init__(self, kind: str, folder: Path, catalogue: Catalogue) -> None:
        self.kind, self.folder, self.catalogue = kind, folder, catalogue
        self.missed = 0
        """Flows with the truth of an app that have no verdict."""
        self._rows: dict[tuple[Any, ...], list[tuple[float, str | None]]] = defaultdict(list)
        if kind == "real":
            with (folder / "flows.csv").open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    key = (
                        *(row[name] for name in ("source", "app", "transport", "client")),
                        *(row["client_port"], row["server"], row["server_port"]),
                    )
                    app = self.app(row["truth"]) if row["truth"] else None
                    self._rows[key].append((float(row["start"]), app))

    def app(self, name: str) -> str:
        """An app's name in the truth as an id of the catalogue, where it has one."""
        if name == OTHER:
            return OTHER
        name = CALLED.get(name, name)
        known = self.catalogue.find_app(name) or self.catalogue.find_app(name.replace("-", " "))
        return one(name if known is None else known.id)

    def seen(self, source: str, capture: str, truth: str | None, said: dict[str, Any]) -> Seen:
        """A flow of a capture."""
        apps = self.catalogue.apps
        both = [apps[app].provider for app in (truth, said["app"]) if app in apps]
        is_related = len(both) == 2 and both[0] is not None and both[0] == both[1]
        return Seen(source, capture, truth, said, is_related)

    def flows(self, path: Path, rows: list[dict[str, Any]]) -> Iterator[Seen]:
        """The flows of a capture with what is true of them."""
        parts = path.relative_to(self.folder).parts
        source = parts[0] if len(parts) > 1 else path.name.split(".")[0]
        name = path.name.split(".")[0]
        if self.kind == "real":
            yield from self._real(source, name, rows)
            return
        app = self.app(name) if self.kind == "messengers" else self._in_name(name)
        for row in rows:
            yield self.seen(source, app or name, app, row)

    def _real(self, source: str, name: str, rows: list[dict[str, Any]]) -> Iterator[Seen]:
        used: set[tuple[Any, ...]] = set()
        for row in rows:
            ends = [
                (row["client_address"], str(row["client_port"])),
                (row["server_address"], str(row["server_port"])),
            ]
            found = None
            for client, server in (ends, ends[::-1]):
                key = (source, name, PROTOCOLS[row["protocol"]], *client, *server)
                if key in self._rows:
                    start = row["start_ns"] / 1e9
                    found = min(self._rows[key], key=lambda each: abs(each[0] - start))
                    used.add((*key, found))
                    break
            yield self.seen(source, self.app(name), None if found is None else found[1], row)
        for key, listed in self._rows.items():
            if key[:2] == (source, name):
                self.missed += sum(
                    app not in (None, OTHER) and (*key, (start, app)) not in used
                    for start, app in listed
                )

    def _in_name(self, name: str) -> str | None:
        """The app that a capture's name has in it."""
        words = re.split(r"[^a-z0-9]+", name.lower())
        for n in range(len(words), 0, -1):
            for at in range(len(words) - n + 1):
                part = words[at : at + n]
                for text in ("-".join(part), " ".join(part)):
                    known = self.catalogue.find_app(text)
                    if known is not None:
                        return one(known.id)
        return None


def shares(flows: list[Seen], seed: int = 0) -> dict[str, Any]:
    """Shares of the outcomes by flows and by bytes, with intervals over sources."""
    if not flows:
        return {"flows": 0}
    sources = sorted({flow.source for flow in flows})
    place = {source: at for at, source in enumerate(sources)}
    count = np.zeros((2, len(sources), len(OUTCOMES)))
    for flow in flows:
        at = OUTCOMES.index(flow.outcome)
        count[0, place[flow.source], at] += 1
        count[1, place[flow.source], at] += flow.size
    drawn = np.random.default_rng(seed).integers(len(sources), size=(ROUNDS, len(sources)))
    found: dict[str, Any] = {"flows": len(flows), "sources": len(sources)}
    for by, table in zip(("by_flows", "by_bytes"), count, strict=True):
        total = table.sum(axis=0)
        sums = table[drawn].sum(axis=1)
        with np.errstate(invalid="ignore"):
            each = sums / sums.sum(axis=1, keepdims=True)
        low, high = np.nanquantile(each, [0.025, 0.975], axis=0)
        found[by] = {
            outcome: {
                "share": round(float(total[at] / max(total.sum(), 1)), 4),
                "interval": [round(float(low[at]), 4), round(float(high[at]), 4)],
            }
            for at, outcome in enumerate(OUTCOMES)
        }
    return found


def by_evidence(flows: list[Seen]) -> dict[str, dict[str, int]]:
    """Flows by evidence and outcome."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for flow in flows:
        table[flow.said["evidence"] or "none"][flow.outcome] += 1
    return {kind: dict(counts) for kind, counts in sorted(table.items())}


def figures(kind: str, flows: list[Seen], missed: int) -> dict[str, Any]:
    """The figures of one set of captures."""
    if kind in ("android", "ndpi"):
        known = [flow for flow in flows if flow.truth]
        outcomes: Counter[str] = Counter()
        for flow in known:
            outcomes[LABEL_WORDS.get(flow.outcome, flow.outcome)] += 1
        return {
            "flows": len(flows),
            "of_captures_with_an_app_in_their_name": {
                what: {"flows": n, "share": round(n / max(len(known), 1), 4)}
                for what, n in sorted(outcomes.items())
            },
            "by_evidence": by_evidence(known),
        }
    of_apps = [flow for flow in flows if flow.truth not in (None, OTHER)]
    others = [flow for flow in flows if flow.truth == OTHER]
    as_app = [flow for flow in others if one(flow.said["app"] or "") == flow.capture]
    named = [flow for flow in others if flow.said["app"] not in (None, OTHER)]
    found = {
        "flows": len(flows),
        "app_flows": shares(of_apps),
        "app_flows_without_a_verdict": missed,
        "app_flows_tcp": shares([flow for flow in of_apps if flow.said["protocol"] == 6]),
        "app_flows_udp": shares([flow for flow in of_apps if flow.said["protocol"] == 17]),
        "by_evidence": by_evidence(of_apps),
        "other_flows": len(others),
        "other_named_as_an_app": len(named),
    }
    if kind == "real":
        found["other_named_as_the_captures_app"] = len(as_app)
        found["other_named_as_the_captures_app_share"] = round(len(as_app) / max(len(others), 1), 4)
    return found


def contradictions(name: str, flows: list[Seen]) -> Iterator[list[Any]]:
    """Flows that a name, DNS answer, address or range names as something else than the truth says."""
    for flow in flows:
        app = flow.said["app"]
        if flow.truth is None or app in (None, OTHER) or flow.said["evidence"] == "model":
            continue
        is_wrong = flow.truth != OTHER and one(app) != flow.truth
        if is_wrong or (flow.truth == OTHER and one(app) == flow.capture):
            said = (flow.said[column] for column in ("evidence", "server_name", "http_host"))
            ends = (flow.said[column] for column in ("dns_name", "server_address", "server_port"))
            yield [name, flow.source, flow.capture, flow.truth, app, *said, *ends]


def main() -> None:
    """Runs the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", metavar="KIND=FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--evidence", default=",".join(EvidenceOptions().kinds))
    parser.add_argument("--catalogue", action="append", default=[], metavar="FILE")
    parser.add_argument("--listed", type=Path, help="a CSV file outside the project")
    parser.add_argument("--no-before", action="store_true", help="leave out the embedded model")
    options = parser.parse_args()
    catalogue = Catalogue.load(options.catalogue)
    kinds = EvidenceOptions.parse(options.evidence)
    model = None if options.no_before else load_model()
    ways: dict[str, Any] = {"after": lambda: (Evidence(catalogue, kinds), None, (6, 17))}
    if model is not None:
        ways["before"] = lambda: (None, model, (6,))
    rows: list[list[Any]] = []
    result: dict[str, Any] = {
        "measured": dt.datetime.now(dt.UTC).date().isoformat(),
        "catalogue": {"apps": len(catalogue.apps), "domains": len(catalogue.domains)},
    }
    for text in options.sets:
        kind, _, folder = text.partition("=")
        result[kind] = {}
        for way, decide in ways.items():
            truth = Truth(kind, Path(folder), catalogue)
            flows = [
                flow
                for path in captures(Path(folder))
                for flow in truth.flows(path, verdicts(path, decide))
            ]
            result[kind][way] = figures(kind, flows, truth.missed)
            if way == "after" and kind in ("real", "messengers"):
                rows += contradictions(kind, flows)
    result["contradictions"] = len(rows)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.listed is not None:
        with options.listed.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
