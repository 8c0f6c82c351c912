"""Says which protocol fields tell each app of a linear model on tokens, and in how many sources they occur.

Server names and plain text are left out: a model's folder holds no list of the names that it learned.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset.groups import origins
from apptell.encoding.structure import N_TOKENS
from apptell.encoding.token_meanings import token_meanings
from apptell.learning.token_batch import first_view

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from apptell.dataset import Selection

FIELDS_SHOWN: Final = 6
"""Fields of each app at most."""
MOST_APPS: Final = 300
"""Models of more apps get none."""
_CANDIDATES: Final = 60
_FLOWS_READ: Final = 8
_LEFT_OUT: Final = frozenset({"server name", "text"})
_NAMED: Final = re.compile(r"; or (domain|word|text) ")
"""A token that a name or a text shares with another field."""


def app_reasons(
    learner: Any,
    inputs: NDArray[np.uint16],
    apps: NDArray[np.str_],
    flows: Selection,
    options: Mapping[str, Any],
) -> dict[str, list[dict[str, Any]]] | None:
    """What tells each app: fields with the largest mean contribution to its score against the other apps'.

    Args:
        learner: a fitted model; anything but a linear model on tokens gives None.
        inputs: what it learned from, shape (n, width) or (n, views, width).
        apps: the app of each flow, shape (n,).
        flows: the n flows.
        options: of the inputs.

    Returns:
        For each app, rows with ``words``, ``weight`` (log odds that the field adds to a flow that has it,
        against the mean of the other apps, before scaling by the number of tokens), ``flows`` (share of the
        app's flows that have it) and ``sources`` (of how many sources these are).
    """
    linear, vocabulary = getattr(learner, "linear_", None), getattr(learner, "vocabulary_", None)
    names = [str(app) for app in learner.classes_]
    if linear is None or vocabulary is None or len(names) > MOST_APPS:
        return None
    tokens = first_view(inputs)[:, :N_TOKENS]
    sources = np.unique(origins(flows.flows), return_inverse=True)[1]
    wanted = {name: options[name] for name in ("packets", "skip", "names") if name in options}
    margin = linear.table - (linear.table.sum(axis=1, keepdims=True) - linear.table) / max(
        len(names) - 1, 1
    )
    found = {}
    for column, app in enumerate(names):
        rows = np.flatnonzero(apps == app)
        counts = np.bincount(tokens[rows].ravel(), minlength=len(vocabulary))
        counts[0] = 0
        weight = margin[vocabulary, column]
        gain = weight * counts / max(len(rows), 1)
        best = [
            int(token)
            for token in np.argsort(-gain, kind="stable")[:_CANDIDATES]
            if gain[token] > 0
        ]
        words = _words(best, tokens, rows, flows, wanted)
        found[app] = [
            {
                "words": words[token],
                "weight": round(float(weight[token]), 3),
                "flows": round(float(counts[token] / len(rows)), 3),
                "sources": len(np.unique(sources[rows[(tokens[rows] == token).any(axis=1)]])),
            }
            for token in best
            if token in words
        ][:FIELDS_SHOWN]
    return found


def _words(
    best: list[int],
    tokens: NDArray[np.uint16],
    rows: NDArray[np.int64],
    flows: Selection,
    options: Mapping[str, Any],
) -> dict[int, str]:
    """What some tokens mean, read from a few flows that have many of them."""
    found: dict[int, str] = {}
    left = set(best)
    has = np.isin(tokens[rows], best)
    for _ in range(_FLOWS_READ):
        count = (has & np.isin(tokens[rows], list(left))).sum(axis=1)
        if not left or not count.any():
            break
        flow = flows.read([int(rows[count.argmax()])], ("core", "segments"))
        meanings = token_meanings(flow, **options).meanings
        for token in left & meanings.keys():
            meaning = meanings[token]
            if meaning.field not in _LEFT_OUT and not _NAMED.search(meaning.words):
                found[token] = meaning.words
        left -= meanings.keys() | set(tokens[rows[count.argmax()]].tolist())
    return found
