r"""Whether reasons say what a model uses: the confidence when the strongest parts are removed, and random ones.

    OMP_NUM_THREADS=1 nice python -m benchmarks.deletion -o WORK [--captures FOLDER] [--models fast,fusion]

Each model is trained on some sources and explained on flows of the others: of the embedded samples, the
recordings of one day; of FOLDER (``<source>/<app>.pcap.gz``), every fifth source. Of each flow that the model
decides, the parts with the largest contributions to its likeliest app are removed, 5 % of the tokens (or of
the bytes, in ranges of 16), and the app's probability is asked again; then as many random parts, ten times.
WORK keeps models and datasets; ``explanations.json`` there has the figures.

    nice python -m benchmarks.deletion -o WORK --rankings --models fast,fusion

compares other ways to choose the 5 % of the tokens, with the models that are there: by the change of the app's
own probability, and greedily, each after those before it are gone.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset import Dataset
from apptell.encoding.structure import N_TOKENS
from apptell.experiments.samples import embedded_dataset
from apptell.learning import train_model
from apptell.models import load_model
from apptell.reasons import Explainer
from apptell.reasons.byte_parts import byte_parts
from apptell.reasons.score import Pair, log_odds
from apptell.verdicts import identify_flows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows import FlowBatch
    from apptell.models import Model
    from apptell.reasons import Explanation

SHARE: Final = 0.05
DRAWS: Final = 10
FLOWS: Final = 200
BYTE_FLOWS: Final = 24
"""Flows that models on bytes are asked about; each takes some 600 runs of the network."""
SEED: Final = 0


@dataclass
class Deleted:
    """What removing parts did to one flow's confidence, as a share of it."""

    strongest: float
    random: float
    needed: float
    """Share of the parts, the strongest first, that halve the confidence."""


def without_tokens(x: NDArray[Any], tokens: list[int]) -> NDArray[Any]:
    """The input without some tokens."""
    kept = x[:N_TOKENS][~np.isin(x[:N_TOKENS], tokens)]
    found = x.copy()
    found[:N_TOKENS] = 0
    found[: len(kept)] = kept
    return found


def deleted(model: Model, flows: FlowBatch, found: Explanation, random: Any) -> Deleted | None:
    """Removes parts of one flow; None where it has too few."""
    assert found.model is not None
    x = model.encode(flows)[0]
    app = model.apps.index(found.model.app)
    ordered = sorted(found.model.contributions, key=lambda each: -each.value)
    if model.info["inputs"] == "structure":
        every = [int(token) for token in x[:N_TOKENS] if token]
        strongest = [each.token for each in ordered if each.token is not None]
        count = max(1, round(SHARE * len(every)))
        if len(every) < 20:
            return None
        variants = [without_tokens(x, strongest[:count])]
        variants += [
            without_tokens(x, random.choice(every, count, replace=False).tolist())
            for _ in range(DRAWS)
        ]
        steps = [without_tokens(x, strongest[:n]) for n in range(1, len(strongest) + 1)]
        sizes = np.arange(1, len(strongest) + 1) / len(every)
    else:
        parts = byte_parts(list(found.segments), str(model.info["inputs"]))
        place = {part.span: part.places for part in parts}
        n_bytes = sum(len(part.places) for part in parts)
        if len(parts) < 20:
            return None
        by_byte = sorted(
            found.model.contributions, key=lambda each: -each.value / len(place[each.spans[0]])
        )

        def cut(places: list[NDArray[np.int64]]) -> NDArray[Any]:
            flat = x.reshape(-1).copy()
            flat[np.concatenate(places)] = 0
            return np.asarray(flat.reshape(x.shape))

        def first(spans: list[Any]) -> list[NDArray[np.int64]]:
            taken: list[NDArray[np.int64]] = []
            for span in spans:
                if taken and sum(map(len, taken)) + len(place[span]) > SHARE * n_bytes:
                    break
                taken.append(place[span])
            return taken

        spans = [each.spans[0] for each in by_byte]
        variants = [cut(first(spans))]
        variants += [
            cut(first([spans[i] for i in random.permutation(len(spans))])) for _ in range(DRAWS)
        ]
        steps = [cut([place[span] for span in spans[:n]]) for n in range(1, len(spans) + 1, 4)]
        sizes = np.cumsum([len(place[span]) for span in spans])[::4] / n_bytes
    p = model.predict_inputs(np.stack([x, *variants, *steps]))[:, app].astype(np.float64)
    fall = 1 - p[1:] / p[0]
    halved = np.flatnonzero(fall[1 + DRAWS :] >= 0.5)
    needed = float(sizes[halved[0]]) if len(halved) else 1.0
    return Deleted(float(fall[0]), float(fall[1 : 1 + DRAWS].mean()), needed)


def measured(model: Model, flows: FlowBatch) -> dict[str, Any]:
    """Removes parts of each flow."""
    random = np.random.default_rng(SEED)
    explainer = Explainer(model)
    found, sums = [], []
    at = 0
    for verdicts in identify_flows([flows], model, threshold=0.0):
        for verdict in verdicts:
            one = flows.take([at])
            at += 1
            reason = explainer.explain(one, verdict)
            if reason.model is not None and reason.model.adds_up:
                total = reason.model.base + sum(each.value for each in reason.model.contributions)
                sums.append(abs(total - reason.model.total))
            fall = deleted(model, one, reason, random)
            if fall is not None:
                found.append(fall)
    quartiles = {
        name: np.percentile([getattr(each, name) for each in found], [50, 25, 75]).round(4).tolist()
        for name in ("strongest", "random", "needed")
    }
    return {"flows": len(found), "largest_rest": max(sums, default=None), **quartiles}


def chosen_tokens(model: Model, found: Explanation, x: NDArray[Any]) -> dict[str, list[int]]:
    """The strongest 5 % of a flow's tokens, by four rankings."""
    reason = found.model
    assert reason is not None
    app, other = model.apps.index(reason.app), model.apps.index(reason.runner_up)
    every = [int(token) for token in x[:N_TOKENS] if token]
    count = max(1, round(SHARE * len(every)))

    def odds(rows: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(log_odds(model, rows, Pair(app, other)), dtype=np.float64)

    def own(rows: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(model.predict_inputs(rows)[:, app], dtype=np.float64)

    def greedy(score: Any) -> list[int]:
        gone: list[int] = []
        for _ in range(count):
            rest = [token for token in every if token not in gone]
            left = score(np.stack([without_tokens(x, [*gone, token]) for token in rest]))
            gone.append(rest[int(np.argmin(left))])
        return gone

    ordered = sorted(reason.contributions, key=lambda each: -each.value)
    alone = own(np.stack([without_tokens(x, [token]) for token in every]))
    return {
        "contribution": [each.token for each in ordered if each.token is not None][:count],
        "own probability": [every[i] for i in np.argsort(alone, kind="stable")[:count]],
        "greedy, contribution": greedy(odds),
        "greedy, own probability": greedy(own),
    }


def rankings(model: Model, flows: FlowBatch) -> dict[str, Any]:
    """The share of the confidence that is lost without the tokens of each ranking: median and quartiles."""
    explainer = Explainer(model)
    falls: dict[str, list[float]] = {}
    (verdicts,) = identify_flows([flows], model, threshold=0.0)
    for at, verdict in enumerate(verdicts):
        one = flows.take([at])
        x = model.encode(one)[0]
        found = explainer.explain(one, verdict)
        assert found.model is not None
        app = model.apps.index(found.model.app)
        if (x[:N_TOKENS] > 0).sum() < 20:
            continue
        for name, tokens in chosen_tokens(model, found, x).items():
            both = model.predict_inputs(np.stack([x, without_tokens(x, tokens)]))[:, app]
            falls.setdefault(name, []).append(1 - float(both[1]) / float(both[0]))
    return {
        name: [len(values), *np.percentile(values, [50, 25, 75]).round(3).tolist()]
        for name, values in falls.items()
    }


def sides(data: Dataset, *, every: int | None) -> tuple[FlowBatch, FlowBatch]:
    """Flows to learn from and flows to explain, of other sources."""
    flows = data.read()
    flows = flows.filter(
        (flows.payload_packets >= 2) & flows.column("label").is_valid().to_numpy(False)
    )
    source = np.array(
        [dict(each or ()).get("source", "") for each in flows.column("groups").to_pylist()]
    )
    names = sorted(set(source.tolist()))
    held = names[::every] if every else [name for name in names if name.startswith(names[-1][:4])]
    is_test = np.isin(source, held)
    test = np.flatnonzero(is_test)
    chosen = np.random.default_rng(SEED).permutation(test)[:FLOWS]
    return flows.filter(~is_test), flows.take(np.sort(chosen))


COLUMNS: Final = (
    ("data", "text"), ("model", "text"), ("flows learned", "count"), ("flows explained", "count"),
    ("confidence lost without the strongest 5 % (middle half)", "share"),
    ("without a random 5 % (middle half)", "share"),
    ("share of the strongest parts that halves it (middle half)", "share"),
    ("largest difference of sum and score", "text"),
)  # fmt: skip


def table(done: dict[str, Any]) -> dict[str, Any]:
    """The results as a measurement of ``docs/reports/data``."""
    rows = []
    for key, found in done.items():
        data, _, model = key.partition("/")
        rest = "-" if found["largest_rest"] is None else f"{found['largest_rest']:.1g}"
        figures = [found[name] for name in ("strongest", "random", "needed")]
        rows.append([data, f"`{model}`", found["learned"], found["flows"], *figures, rest])
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": "2 cores of an AMD EPYC with AVX-512, 24 GB, Linux, Python 3.11.7, under load",
        "command": "python -m benchmarks.deletion -o WORK",
        "columns": [{"title": title, "format": kind} for title, kind in COLUMNS],
        "rows": rows,
    }


def main() -> None:
    """Measures what is asked for on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", dest="out", type=Path, required=True)
    parser.add_argument("--captures", type=Path)
    parser.add_argument("--models", default="fast,fusion,paper-cnn")
    parser.add_argument("--rankings", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    results = asked.out / "results.json"
    done = json.loads(results.read_text()) if results.exists() else {}
    if asked.captures is None:
        name, data, every = "samples", embedded_dataset(asked.out / "samples"), None
    else:
        name, every = asked.captures.name, 5
        place = asked.out / name
        data = Dataset.open(place) if place.exists() else Dataset.build(asked.captures, place)
    learned, explained = sides(data, every=every)
    labels = [str(label).partition("/")[0] for label in learned.column("label").to_pylist()]
    for kind in asked.models.split(","):
        key = f"{name}/{kind}"
        folder = asked.out / key.replace("/", "-")
        if asked.rankings:
            print(key, rankings(load_model(folder), explained), flush=True)
            continue
        if key in done:
            continue
        if not folder.exists():
            epochs = 6 if kind == "paper-cnn" else 20
            train_model(learned, labels, model=kind, epochs=epochs, seed=SEED, out=folder)
        model = load_model(folder)
        few = (
            explained if model.info["inputs"] == "structure" else explained[:: FLOWS // BYTE_FLOWS]
        )
        done[key] = {"learned": len(learned), **measured(model, few)}
        results.write_text(json.dumps(done, indent=2))
        (asked.out / "explanations.json").write_text(json.dumps(table(done), indent=1) + "\n")
        print(key, done[key], flush=True)


if __name__ == "__main__":
    main()
