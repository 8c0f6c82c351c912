"""Probes how well each single field tells the apps apart.

A probe is trained on one field of the training side and tested on the other side: a table of its values, and
for numbers also a tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from apptell.dataset.groups import days, group_names, group_values
from apptell.evaluation.leaks import Finding, gain_of, look_up, shared_share
from apptell.evaluation.uncertainty import mcnemar
from apptell.experiments.neighbour import NearestNeighbour
from apptell.learning.forest import StatisticsForest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from apptell.dataset.splits import Split
    from apptell.flows.schema import FlowBatch

_CHANCE: Final = 0.001
"""The significance level of a gain. Some 15 fields are probed, and flows of one network resemble each other,
so 0.05 would give false alarms.
"""
_LEAF: Final = 5
"""Minimum number of flows in a leaf of a tree; smaller leaves would memorise single flows."""
_PERMUTED: Final = 3
"""Drawings of permuted labels."""
_SECOND: Final = 1_000_000_000
_DAY_S: Final = 86_400

_ADVICE: Final = {
    "address": "keep addresses out of the inputs (apptell's models see none) and split by source or domain",
    "port": "train without ports",
    "server name": "look at figures with names masked (compare gives both), and split by domain",
    "sequence number": "never an input of apptell; keep TCP headers out of any other model's bytes",
    "timestamp": "keep absolute times out of the inputs, and split by day, session or time",
    "checksum": "never an input of apptell; keep headers out of any other model's bytes",
    "TTL": "never an input of apptell; record all apps at one place, and keep headers out of the bytes",
    "duplicate flow": "remove repeated flows, or split by what repeats them (session or source)",
    "label order": "shuffle before training, and split by session or source",
}


def fields_of(flows: FlowBatch) -> dict[str, list[NDArray[Any]]]:
    """Every field by name: its columns, shape (n,) each; numbers as numbers, the rest as objects."""
    start = flows.numpy("start_ns").astype(np.int64)
    seconds = start / _SECOND
    fields: dict[str, list[NDArray[Any]]] = {
        "address": [_text(flows, "client_address"), _text(flows, "server_address")],
        "port": [_number(flows, "client_port"), _number(flows, "server_port")],
        "server name": [
            _text(flows, name)
            for name in ("server_name", "http_host", "dns_name")
            if name in flows.columns
        ],
        "sequence number": [_number(flows, "client_sequence"), _number(flows, "server_sequence")],
        "timestamp": [seconds - seconds.min(), seconds % _DAY_S, (start % _SECOND).astype(float)],
        "checksum": [_number(flows, "client_checksum"), _number(flows, "server_checksum")],
        "TTL": [_number(flows, "client_ttl"), _number(flows, "server_ttl")],
        "label order": [np.arange(len(flows), dtype=np.float64)],
    }
    groups = {name: group_values(flows, name) for name in group_names(flows)}
    day = days(flows)
    if "day" in groups:
        known = np.array([value is not None for value in groups["day"]])
        day = np.where(known, groups["day"], day)
    for name, values in {**groups, "day": day}.items():
        fields[name] = [values]
    return fields


def _text(flows: FlowBatch, name: str) -> NDArray[Any]:
    return np.array(flows.column(name).to_pylist(), dtype=object)


def _number(flows: FlowBatch, name: str) -> NDArray[Any]:
    """A column of numbers; objects, None where there is none."""
    if name not in flows.columns:
        return np.full(len(flows), None, dtype=object)
    return np.array(flows.column(name).to_pylist(), dtype=object)


def probe(
    field: str,
    columns: Sequence[NDArray[Any]],
    truth: NDArray[np.str_],
    split: Split,
    limit: float,
    seed: int,
) -> Finding:
    """The best probe of a field's columns."""
    train, test = split.train, split.test
    best = (-1.0, 0.0, 1.0)
    shared = 0.0
    for column in columns:
        guesses = [look_up(column[train], truth[train], column[test])]
        if all(isinstance(value, (int, float)) or value is None for value in column.tolist()):
            numbers = np.array([-1.0 if value is None else float(value) for value in column])
            # Trees compare in float32; ranks of values keep every order that float64 has.
            rank = np.unique(numbers, return_inverse=True)[1].reshape(-1, 1)
            tree = DecisionTreeClassifier(min_samples_leaf=_LEAF, random_state=seed)
            guesses.append(tree.fit(rank[train], truth[train]).predict(rank[test]))
        best = max(best, *(gain_of(truth[test], guess) for guess in guesses))
        shared = max(shared, shared_share(column[train], column[test]))
    advice = _ADVICE.get(field, f"split by {field} (the split {_protocol(field)})")
    return _finding(field, best, shared, limit, advice)


def _protocol(group: str) -> str:
    named = ("session", "source", "device", "network", "day", "version")
    return group if group in named else f"group:{group}"


def _finding(
    field: str, best: tuple[float, float, float], shared: float, limit: float, advice: str
) -> Finding:
    gain, accuracy, p_value = best
    return Finding(
        field, gain, accuracy, shared, p_value, gain > limit and p_value < _CHANCE, advice
    )


def duplicates(
    near: NDArray[np.int64], truth: NDArray[np.str_], split: Split, limit: float
) -> Finding:
    """Probes duplicates: a tested flow gets the app of its duplicate, or else the most frequent app."""
    values, counts = np.unique(truth[split.train], return_counts=True)
    guess = np.where(near >= 0, truth[near], values[counts.argmax()])
    return _finding(
        "duplicate flow",
        gain_of(truth[split.test], guess),
        float((near >= 0).mean()),
        limit,
        _ADVICE["duplicate flow"],
    )


def nearest_accuracy(inputs: NDArray[Any], truth: NDArray[np.str_], split: Split) -> float:
    """Accuracy of the nearest training flow on the test side, for inputs of shape (n, features)."""
    known = NearestNeighbour().fit(inputs[split.train], truth[split.train])
    guess = known.classes_[known.predict_proba(inputs[split.test]).argmax(axis=1)]
    return float((guess == truth[split.test]).mean())


def permuted_accuracy(
    inputs: NDArray[Any], truth: NDArray[np.str_], split: Split, seed: int
) -> tuple[float, bool]:
    """Mean accuracy after learning permuted labels, and whether each drawing beat chance."""
    tested = truth[split.test]
    values, counts = np.unique(tested, return_counts=True)
    most_frequent = tested == values[counts.argmax()]
    noise = np.random.default_rng(seed)
    found, beats = [], []
    for _ in range(_PERMUTED):
        forest = StatisticsForest(30, random_state=int(noise.integers(2**31)))
        forest.fit(inputs[split.train], noise.permutation(truth[split.train]))
        right = forest.predict(inputs[split.test]) == tested
        found.append(float(right.mean()))
        beats.append(
            right.mean() > most_frequent.mean() and mcnemar(right, most_frequent) < _CHANCE
        )
    return float(np.mean(found)), all(beats)
