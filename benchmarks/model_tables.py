"""Writes the tables of docs/reports/models.md from what was measured.

    python benchmarks/model_tables.py RESULTS -o docs/reports/data
    python docs/make_report_tables.py

RESULTS is the folder of ``sources.py``, ``variants.py``, ``fusion_shares.py`` and ``udp_misses.py``. A table
whose measurements are not all there is left as it is.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.evaluation.by_source import source_figures
from apptell.evaluation.providers import by_provider, provider_of
from apptell.files import write_file
from real_flows import OTHER

if TYPE_CHECKING:
    from collections.abc import Sequence

MACHINE: Final = (
    "2 cores of an Intel Xeon, 24 GB, Linux 6.18, Python 3.11.7, Debian 12, shared with other work"
)
COMMAND: Final = "python benchmarks/sources.py CAPTURES -o RESULTS"
FIGURES: Final = (
    ("seeds", "count"), ("flows", "count"), ("sources", "count"), ("accuracy (95 %)", "share"),
    ("macro-F1 (95 %)", "share"), ("accuracy, sources alike", "share"), ("ECE", "share"),
    ("precision at 0.85", "share"), ("coverage at 0.85", "share"), ("six apps: accuracy", "share"),
    ("six apps: macro-F1", "share"),
)  # fmt: skip
TITLES: Final = {"paper-rf": "paper-rf, no ports", "nearest-neighbour": "nearest neighbour"}
PARTS: Final = {"all": "TCP and UDP", "TCP": "TCP", "UDP": "UDP", "mid-session": "mid-session"}
BY_SOURCE: Final = (
    ("source", "text"), ("apps", "text"), ("flows", "count"), ("accuracy", "share"),
    ("most frequent errors", "text"),
)  # fmt: skip
FEW: Final = 5
"""Sources with fewer flows share one row of the table by source."""


class Run(NamedTuple):
    """What was measured: the arguments of ``sources.py``."""

    model: str
    names: str = "masked"
    folds: int | None = None
    background: bool = False
    set: str = ""


class Results:
    """The measurements of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = json.loads((folder / "sources.json").read_text(encoding="utf-8"))
        self.rows = [row for row in rows if not row["what"]["untouched"]]

    def seeds(self, run: Run) -> list[dict[str, Any]]:
        """The rows of each seed."""
        asked = run._asdict()
        return [row for row in self.rows if {k: row["what"].get(k) for k in asked} == asked]

    def predictions(self, run: Run) -> list[dict[str, Any]]:
        """Truths, sources and probabilities of each flow, by seed."""
        found = []
        for row in self.seeds(run):
            words = (f"{key}={value}" for key, value in row["what"].items())
            with np.load(self.folder / "probabilities" / f"{' '.join(words)}.npz") as file:
                found.append({name: file[name] for name in file.files})
        return found

    def figures(self, run: Run, part: str) -> list[Any] | None:
        """The cells of a part of the flows; several seeds are pooled. None where nothing was measured."""
        rows = self.seeds(run)
        if not rows or part not in rows[0]:
            return None
        found = rows[0][part]
        if len(rows) > 1:
            found = _pooled(self.predictions(run), part)
        by, six = found["provider"], found["app"]
        return [
            len(rows), by["flows"] // len(rows), by["sources"], by["accuracy"], by["macro_f1"],
            by["accuracy_by_source"], by["ece"], by["precision_at_85"], by["coverage_at_85"],
            six["accuracy"][0], six["macro_f1"][0],
        ]  # fmt: skip


def _pooled(seeds: Sequence[dict[str, Any]], part: str) -> dict[str, Any]:
    kept = []
    for each in seeds:
        if part == "mid-session":
            kept.append(each["late"])
        elif part == "all":
            kept.append(np.ones(len(each["app"]), dtype=bool))
        else:
            kept.append(each["protocol"] == {"TCP": "6", "UDP": "17"}[part])

    def joined(name: str) -> Any:
        return np.concatenate([each[name][rows] for each, rows in zip(seeds, kept, strict=True)])

    apps = tuple(seeds[0]["apps"].tolist())
    return source_figures(joined("app"), joined("source"), joined("p"), apps, OTHER)


class Table(NamedTuple):
    """A table of figures."""

    arguments: str
    """Of ``sources.py``."""
    head: tuple[tuple[str, str], ...]
    lines: list[tuple[list[str], Run, str]]
    """The words of each line, what was measured, and the part of the flows."""


def tables() -> dict[str, Table]:
    """The tables of figures, by name."""
    part, model = ("part", "text"), ("model", "text")
    members = {
        "`name-lookup`: server names alone": Run("name-lookup", "on"),
        "`name-lookup`, catalogue too": Run("name-lookup", "on", set="catalogue=1"),
        "`fast` without the lookup": Run("fast", "tokens"),
        "`fast`: tokens and lookup": Run("fast", "on"),
        "`fast`, catalogue too": Run("fast", "on", set="catalogue=1"),
    }
    masked = [
        ([title, TITLES.get(m, m), "masked" if m == "fast" else "not read"], Run(m), key)
        for key, title in PARTS.items()
        for m in ("fast", "paper-rf", "nearest-neighbour")
    ]
    with_names = [
        ([f"`messengers`, {title}", m, "on"], Run(m, "on"), key)
        for key, title in (("all", "TCP"), ("mid-session", "mid-session"))
        for m in ("fast", "name-lookup")
    ]
    four = "--model fast --model paper-rf --model nearest-neighbour --model name-lookup"
    return {
        "models_sources": Table(four, (part, model, ("names", "text")), masked + with_names),
        "models_members": Table(
            "--names on,tokens [--set catalogue=1]",
            (("members", "text"), part),
            [
                ([title, key], run, key)
                for title, run in members.items()
                for key in ("all", "mid-session")
            ],
        ),
        "models_folds": Table(
            "--folds 10 --model fast --model fusion --model name-lookup",
            (part, model, ("names", "text")),
            [
                ([title, m, "masked"], Run(m, folds=10), key)
                for key, title in PARTS.items()
                for m in ("fast", "fusion")
            ]
            + [
                ([f"`messengers`, {title}", m, "on"], Run(m, "on", folds=10), key)
                for key, title in (("all", "TCP"), ("mid-session", "mid-session"))
                for m in ("fast", "fusion", "name-lookup")
            ],
        ),
        "models_background_folds": Table(
            "--folds 5 --names masked --background on --model fast --model fusion",
            (part, model),
            [
                ([title, m], Run(m, folds=5, background=True), key)
                for key, title in PARTS.items()
                for m in ("fast", "fusion")
            ],
        ),
    }


def main() -> None:
    """Writes every table that can be made."""
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    results = Results(given.results)
    for name, table in tables().items():
        cells = [(words, results.figures(run, part)) for words, run, part in table.lines]
        if all(each for _, each in cells):
            rows = [[*words, *map(_rounded, each or [])] for words, each in cells]
            columns = [*table.head, *FIGURES]
            _save(given.output / f"{name}.json", f"{COMMAND} {table.arguments}", columns, rows)
    for name, run, more in (
        ("models_by_source", Run("fast"), "--names masked"),
        ("models_by_source_folds", Run("fast", folds=10), "--names masked --folds 10"),
    ):
        if seeds := results.predictions(run):
            file = given.output / f"{name}.json"
            _save(file, f"{COMMAND} {more}", BY_SOURCE, _by_source(seeds[0]))
    for name, write in (
        ("udp", _udp), ("variants", _variants), ("fields", _variants), ("shares", _shares),
    ):  # fmt: skip
        if (file := given.results / f"{name}.json").exists():
            write(
                json.loads(file.read_text(encoding="utf-8")), given.output / f"models_{name}.json"
            )


def _udp(found: dict[str, Any], file: Path) -> None:
    columns = (
        ("app", "text"), ("source", "text"), ("the flow begins with", "text"), ("flows", "count"),
        ("right", "count"), ("flows of the app that begin so in other sources", "count"),
    )  # fmt: skip
    rows = [row for row in found["rows"] if row[3] >= FEW]
    _save(
        file,
        "python benchmarks/udp_misses.py CAPTURES -o RESULTS",
        columns,
        rows,
    )


def _by_source(found: dict[str, Any]) -> list[list[Any]]:
    """The rows of the table by source; sources of few flows share the last one."""
    apps = tuple(found["apps"].tolist())
    shares, providers = by_provider(found["p"], apps)
    truth = np.array([provider_of(each) for each in found["app"].tolist()])
    right = np.array(providers)[shares.argmax(axis=1)] == truth
    guess = np.array(apps)[found["p"].argmax(axis=1)]
    rows, few = [], np.zeros(len(right), dtype=bool)
    for source in np.unique(found["source"]).tolist():
        of = found["source"] == source
        if of.sum() < FEW:
            few |= of
            continue
        wrong = of & ~right
        pairs = zip(found["app"][wrong].tolist(), guess[wrong].tolist(), strict=True)
        counts = Counter(f"{a} as {b}" for a, b in pairs)
        top = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:2]
        rows.append([
            source, ", ".join(np.unique(found["app"][of]).tolist()), int(of.sum()),
            _rounded(float(right[of].mean())), ", ".join(f"{w} {n}" for w, n in top) or "none",
        ])  # fmt: skip
    rows.sort(key=lambda row: -row[2])
    if few.any():
        title = f"{len(np.unique(found['source'][few]))} sources with fewer than five flows"
        rows.append([title, "", int(few.sum()), _rounded(float(right[few].mean())), ""])
    return rows


def _variants(found: dict[str, Any], file: Path) -> None:
    chosen, loss = Counter(found["chosen in folds"]), found["inner log loss"]
    rows = []
    for name, parts in found.items():
        if name in ("chosen in folds", "inner log loss") or "by transport" in name:
            continue
        every = parts["all"]
        title = name.replace("chosen", "chosen by inner folds")
        rows.append([
            title, _rounded(loss.get(name)), f"{chosen[name]} of 10" if name in loss else None,
            *(_rounded(every[key]) for key in (
                "accuracy", "macro_f1", "accuracy_by_source", "ece", "precision_at_85",
                "coverage_at_85",
            )),
            *(_rounded(parts[number]["accuracy"][0]) for number in ("6", "17")),
        ])  # fmt: skip
    columns = (
        ("variant of `fast`", "text"), ("inner log loss", "share"), ("chosen in folds", "text"),
        *FIGURES[3:9], ("TCP: accuracy", "share"), ("UDP: accuracy", "share"),
    )  # fmt: skip
    tried = "".join(f' --variant "{name}"' for name in loss)
    name = file.stem.removeprefix("models_")
    command = f"python benchmarks/variants.py CAPTURES -o RESULTS --name {name}{tried}"
    _save(file, command, columns, rows)


def _shares(found: dict[str, Any], file: Path) -> None:
    rows = []
    for name, parts in found.items():
        chosen = parts["chosen"]
        picked = [f"{share} in {n}" for share, n in sorted((chosen or {}).items(), reverse=True)]
        by = parts["all"]["provider"]
        rows.append([
            name.replace("chosen", "chosen on the other folds"), ", ".join(picked) or None,
            _rounded(parts["log loss"]), _rounded(parts["log loss, sources alike"]),
            *(_rounded(by[key]) for key in (
                "accuracy", "macro_f1", "accuracy_by_source", "ece", "precision_at_85",
                "coverage_at_85",
            )),
            _rounded(parts["TCP"]["provider"]["accuracy"][0]),
            _rounded(parts["TCP"]["provider"]["ece"]),
            _rounded(parts["UDP"]["provider"]["accuracy"][0]),
        ])  # fmt: skip
    columns = (
        ("share of the network", "text"), ("chosen, in folds", "text"), ("log loss", "share"),
        ("log loss, sources alike", "share"), *FIGURES[3:9], ("TCP: accuracy", "share"),
        ("TCP: ECE", "share"), ("UDP: accuracy", "share"),
    )  # fmt: skip
    _save(file, "python benchmarks/fusion_shares.py RESULTS", columns, rows)


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def _save(
    file: Path, command: str, columns: Sequence[tuple[str, str]], rows: Sequence[list[Any]]
) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    head = {
        "measured": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": MACHINE,
        "command": command,
        "columns": [{"title": title, "format": form} for title, form in columns],
    }
    text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    body = ",\n  ".join(lines)
    write_file(file, f'{text},\n "rows": [\n  {body}\n ]\n}}\n'.encode())


if __name__ == "__main__":
    main()
