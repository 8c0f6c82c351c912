"""Candidates for unlearned apps: how many apps are found, and how many candidates are of one app. JSON lines.

    apptell dataset build CAPTURES/messengers -o messengers --labels folders
    apptell dataset build DATASETS/fgnet -o fgnet
    nice python benchmarks/discoveries.py fgnet fgnet -o results/ --sessions 0.17 --trees 20
    nice python benchmarks/discoveries.py messengers messengers --captures CAPTURES/messengers -o results/

``fgnet`` leaves 13 drawn apps out and learns from three quarters of month 0's sessions. Discovered are month 0
(the held-out sessions of known apps, and all of the 13) and month 1, on phones that run one app at a time or
three. The settings of clusters were chosen on month 0. ``messengers`` leaves each app out in turn, holds a
third of the networks out, and looks at the captures of these networks and at all captures of the app, without
background traffic.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from apptell.dataset import Dataset
from apptell.dataset.groups import origins
from apptell.experiments.labelled import apps_of
from apptell.learning import train_model
from apptell.learning.task import Task
from apptell.models import load_model
from apptell.verdicts.context import ContextOptions, reweigh_all
from apptell.verdicts.pipeline import DEFAULT_THRESHOLD
from apptell.verdicts.unlearned import extended
from apptell.watch.candidates import find_candidates
from apptell.watch.clusters import find_clusters
from apptell.watch.traffic import SCHEMA, WatchedTraffic, gather, usual_strange
from open_world import RATE, Rows, Trained, held_side, load, on_phones

if TYPE_CHECKING:
    from apptell.learning.labelled_inputs import LabelledInputs

PURE = 0.8
"""Share of a candidate's flows that must be of one app."""


def watched(trained: Trained, flows: LabelledInputs) -> WatchedTraffic:
    """The flows as ``apptell discover`` sees them."""
    assert flows.clients is not None
    assert flows.times_ns is not None
    p, inputs, similarity = trained.judged(flows)
    detector = trained.fitted.detector
    _, share = detector.judge(p, flows.lengths, similarity)
    prior = (trained.counts + 1.0) / (trained.counts + 1.0).sum()
    both, prior = extended(p, prior, share)
    clients = np.unique(flows.clients, return_inverse=True)[1].astype(np.int64)
    weighed, _ = reweigh_all(clients.tolist(), flows.times_ns, both, prior, ContextOptions())
    is_strange = detector.ranks_in_context(weighed[:, -1]) >= np.float32(1 - RATE)
    is_strange |= weighed[:, :-1].max(axis=1) < DEFAULT_THRESHOLD
    nothing = [pa.nulls(len(p), field.type) for field in SCHEMA]
    table = pa.Table.from_arrays(nothing, schema=SCHEMA)
    return WatchedTraffic(
        table, p, weighed[:, -1], is_strange, weighed[:, :-1].argmax(axis=1),
        usual_strange(trained.fitted.facts["apps"]), clients, flows.times_ns, inputs,
        flows.lengths,
    )  # fmt: skip


def judged(label: np.ndarray, apps: np.ndarray, known: set[str]) -> dict[str, Any]:
    """How many unlearned apps have a pure candidate, and how many candidates are pure and unlearned."""
    found, good, n = set(), 0, int(label.max(initial=-1)) + 1
    for number in range(n):
        names, counts = np.unique(apps[label == number], return_counts=True)
        top = str(names[counts.argmax()])
        if counts.max() >= PURE * counts.sum() and top not in known:
            good += 1
            found.add(top)
    unlearned = sorted(set(apps.tolist()) - known)
    return {
        "unlearned": len(unlearned),
        "found": len(found),
        "candidates": n,
        "pure and unlearned": good,
        "missed": sorted(set(unlearned) - found),
    }


def fgnet(path: Path, rows: Rows, sessions: float, trees: int, seeds: int) -> None:
    """Candidates of 13 apps in month 0 and month 1."""
    task = Task("sequence", hyperparameters={"n_trees": trees})
    flows, months = load(path, task, 10, sessions)
    is_first = months == "D1"
    for seed in range(seeds):
        left_out = np.random.default_rng(seed).choice(np.unique(flows.apps), 13, replace=False)
        is_held = held_side(flows.groups, 0.25, seed)
        is_learned = is_first & ~is_held & ~np.isin(flows.apps, left_out)
        kinds = {
            "month 0": is_first & (is_held | np.isin(flows.apps, left_out)),
            "month 1": ~is_first,
        }
        what = {"data": "fgnet discover", "sessions": sessions, "trees": trees, "seed": seed}
        work: list[dict[str, Any]] = [
            {**what, "watched": name, "apps at once": n} for n in (1, 3) for name in kinds
        ]
        if all(rows.has(each) for each in work):
            continue
        trained = Trained(task.with_seed(seed), flows.take(np.flatnonzero(is_learned)))
        for each in work:
            if rows.has(each):
                continue
            chosen = flows.take(np.flatnonzero(kinds[each["watched"]]))
            phones = on_phones(chosen, each["apps at once"], seed)
            traffic = watched(trained, phones)
            label, mixed = find_clusters(traffic)
            known = set(trained.apps.tolist())
            rows.add(
                each,
                {
                    "flows": len(label),
                    "unlearned flows": int((~np.isin(phones.apps, trained.apps)).sum()),
                    "mixed": mixed,
                    **judged(label, phones.apps, known),
                },
            )


def messengers(path: Path, captures: Path, rows: Rows, seeds: int) -> None:
    """Candidates of each messenger when a model has not learned it, and what they are proposed as."""
    flows = Dataset.open(path).read()
    apps = np.array(apps_of(flows), dtype=np.str_)
    kept = np.flatnonzero(apps != "other")
    flows, apps = flows.take(kept), apps[kept]
    networks = origins(flows)
    for seed in range(seeds):
        held = held_side(networks, 0.34, seed)
        for app in sorted(set(apps.tolist())):
            what = {"data": "messengers discover", "model": "fast", "seed": seed, "unlearned": app}
            if rows.has(what):
                continue
            learned = np.flatnonzero(~held & (apps != app))
            with tempfile.TemporaryDirectory() as aside:
                folder = Path(aside, "model")
                train_model(
                    flows.take(learned), apps[learned].tolist(), model="fast", unknown=True,
                    out=folder, seed=seed,
                )  # fmt: skip
                model = load_model(folder)
                seen = sorted(
                    str(file)
                    for file in captures.rglob("*.pcap*")
                    if file.name.partition(".")[0] in set(apps.tolist())
                    and (
                        file.name.partition(".")[0] == app
                        or file.parent.name in set(networks[held].tolist())
                    )
                )
                traffic = gather(seen, model)
            candidates, mixed = find_candidates(traffic, model.apps)
            truth = np.array(
                [Path(name).name.partition(".")[0] for name in traffic.table["capture"].to_pylist()]
            )
            about = [
                {
                    "name": one.name,
                    "by": one.named_by,
                    "flows": one.flows,
                    "pure": round(float((truth[one.rows] == app).mean()), 4),
                    "domains": [each.value for each in one.of_kind("domain")[:3]],
                }
                for one in candidates
            ]
            rows.add(
                what,
                {
                    "captures": len(seen),
                    "flows": len(truth),
                    "of the app": int((truth == app).sum()),
                    "mixed": mixed,
                    "candidates": about,
                },
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=["fgnet", "messengers"])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--captures", type=Path, help="folder of the messengers' captures")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sessions", type=float, default=1.0, help="share of FG-Net's sessions")
    parser.add_argument("--trees", type=int, default=100, help="of the forest on FG-Net")
    args = parser.parse_args()
    rows = Rows(args.output)
    if args.part == "fgnet":
        fgnet(args.dataset, rows, args.sessions, args.trees, args.seeds)
    else:
        messengers(args.dataset, args.captures, rows, args.seeds)


if __name__ == "__main__":
    main()
