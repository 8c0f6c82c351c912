"""Measures what a model could gain from a single field."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.evaluation.uncertainty import mcnemar
from apptell.flows.schema import DECISION_SEGMENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

NEAR: Final = 0.9
"""Two flows of equal lengths and directions are near duplicates when this share of bytes is equal."""
_CANDIDATES: Final = 20
"""Training flows of equal lengths that a tested flow is compared with at most."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One field, and what a model could gain from only this field."""

    field: str
    gain: float
    """Accuracy on the test side above that of always naming its most frequent app."""
    accuracy: float
    shared: float
    """Share of tested flows whose value occurs on the training side too."""
    p_value: float
    """How likely such a gain is by chance (McNemar's test against the most frequent app)."""
    is_leak: bool
    """Whether the gain is above the limit and significant."""
    advice: str
    """What to do about it."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def gain_of(truth: NDArray[Any], guess: NDArray[Any]) -> tuple[float, float, float]:
    """Gain over the most frequent app, accuracy and p-value of guesses, both of shape (n,)."""
    apps, counts = np.unique(truth, return_counts=True)
    most_frequent = truth == apps[counts.argmax()]
    right = guess == truth
    accuracy = float(right.mean())
    return accuracy - float(most_frequent.mean()), accuracy, mcnemar(right, most_frequent)


def shared_share(learned: NDArray[Any], tested: NDArray[Any]) -> float:
    """Share of the tested values, shape (m,), that occur in training; None does not count as a value."""
    known = {value for value in learned.tolist() if value is not None}
    return sum(value in known for value in tested.tolist()) / max(len(tested), 1)


def look_up(learned: NDArray[Any], truth: NDArray[Any], tested: NDArray[Any]) -> NDArray[Any]:
    """The app that each tested value had most often in training; the most frequent app elsewhere.

    Args:
        learned: values of the training side, objects, shape (n,); None for nothing.
        truth: their apps, shape (n,).
        tested: values of the test side, shape (m,).
    """
    apps, number = np.unique(truth, return_inverse=True)
    usual = apps[np.bincount(number).argmax()]
    counts: dict[Any, NDArray[np.int64]] = {}
    for value, app in zip(learned.tolist(), number.tolist(), strict=True):
        if value is not None:
            counts.setdefault(value, np.zeros(len(apps), np.int64))[app] += 1
    best = {value: apps[count.argmax()] for value, count in counts.items()}
    return np.array([best.get(value, usual) for value in tested.tolist()])


def fingerprints(flows: FlowBatch) -> tuple[NDArray[Any], NDArray[Any]]:
    """Fingerprints of flows: of content, and of lengths with directions; objects of shape (n,) each.

    Both are of the first five kept segments, None for a flow without any. Times, addresses and ports
    are not included: the same flow sent again has the same fingerprints.
    """
    segments = flows.segments()
    content = np.full(len(flows), None, dtype=object)
    shape = np.full(len(flows), None, dtype=object)
    for flow in range(len(flows)):
        begin = int(segments.first[flow])
        end = min(int(segments.first[flow + 1]), begin + DECISION_SEGMENTS)
        if begin == end:
            continue
        signed = np.where(segments.to_server[begin:end], 1, -1) * segments.length[begin:end]
        data = segments.data[segments.start[begin] : segments.start[end]]
        shape[flow] = tuple(signed.tolist())
        digest = hashlib.blake2b(np.ascontiguousarray(signed).tobytes(), digest_size=16)
        digest.update(data.tobytes())
        content[flow] = digest.digest()
    return content, shape


def near_duplicates(
    flows: FlowBatch,
    shape: NDArray[Any],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> NDArray[np.int64]:
    """For each tested flow a training flow with nearly the same bytes, or -1; shape (m,).

    Args:
        flows: with the group segments.
        shape: lengths and directions of all flows, as ``fingerprints`` gives them.
        train: rows of the training side.
        test: rows of the test side, shape (m,).
    """
    segments = flows.segments()

    def content(flow: int) -> NDArray[np.uint8]:
        begin = int(segments.first[flow])
        end = min(int(segments.first[flow + 1]), begin + DECISION_SEGMENTS)
        return segments.data[segments.start[begin] : segments.start[end]]

    alike: dict[Any, list[int]] = {}
    for row in train.tolist():
        if shape[row] is not None:
            alike.setdefault(shape[row], []).append(row)
    found = np.full(len(test), -1, dtype=np.int64)
    for place, row in enumerate(test.tolist()):
        here = content(row)
        for other in alike.get(shape[row], ())[:_CANDIDATES]:
            there = content(other)
            if len(here) == len(there) and len(here) and (here == there).mean() >= NEAR:
                found[place] = other
                break
    return found
