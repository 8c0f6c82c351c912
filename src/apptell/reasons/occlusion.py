"""Explains any model by taking parts of its input away, one at a time, and looking at its score.

Bytes that are taken away are zeros, which the inputs have where a packet ends; lengths and gaps are zeros,
which stand for no packet. A network never saw a packet with a hole: what it says then is a hint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.encoding.bursts import burst_names
from apptell.encoding.statistics import statistics_names
from apptell.encoding.token_sink import SIDES
from apptell.reasons.byte_parts import as_picture, byte_parts
from apptell.reasons.explanation import LOG_ODDS, OCCLUSION, Contribution
from apptell.reasons.score import Reasoned, log_odds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.models import Model
    from apptell.reasons.explanation import SegmentBytes
    from apptell.reasons.score import Pair


def occluded_bytes(
    x: NDArray[np.uint8], segments: list[SegmentBytes], pair: Pair, model: Model
) -> Reasoned:
    """For models on the paper's image or on payload bytes: fields and byte ranges.

    Args:
        x: the input of one flow, of any shape.
        segments: its first payload packets.
        pair: the two apps.
        model: is asked once for each part.
    """
    inputs = str(model.info["inputs"])
    parts = byte_parts(segments, inputs)
    variants = np.repeat(x.reshape(1, -1), len(parts), axis=0)
    for at, part in enumerate(parts):
        variants[at, part.places] = 0
    total = float(log_odds(model, x[None], pair)[0])
    changes = total - log_odds(model, variants.reshape(len(parts), *x.shape), pair)
    found = []
    for part, change in zip(parts, changes.tolist(), strict=True):
        segment, start, stop = part.span
        where = f"bytes {start} to {stop - 1} of packet {segment + 1} {_side(segments[segment])}"
        found.append(Contribution(change, part.name, f"{part.name}, {where}", (part.span,)))
    picture = as_picture(parts, changes) if inputs == "image" else None
    return Reasoned(OCCLUSION, LOG_ODDS, total, 0.0, found, 0, picture)


def occluded_features(x: NDArray[np.float32], pair: Pair, model: Model) -> Reasoned:
    """For models on numbers: each feature, or each packet's length and gap, is set to zero.

    Args:
        x: the input of one flow, shape (features,) or (packets, channels).
        pair: the two apps.
        model: is asked once for each part.
    """
    parts = feature_parts(x, model)
    variants = np.repeat(x[None], len(parts), axis=0)
    for at, (places, _) in enumerate(parts):
        for place in places:
            variants[(at, *place)] = 0
    total = float(log_odds(model, x[None], pair)[0])
    changes = total - log_odds(model, variants, pair)
    kind = str(model.info["inputs"])
    found = [
        Contribution(change, kind, words)
        for change, (_, words) in zip(changes.tolist(), parts, strict=True)
    ]
    return Reasoned(OCCLUSION, LOG_ODDS, total, 0.0, found)


def feature_words(x: NDArray[np.float32], model: Model) -> list[str]:
    """Each feature of a table of features with its value, in words, by column."""
    kind, options = model.info["inputs"], model.options
    if kind == "statistics":
        names: Any = statistics_names(**options)
    elif kind == "bursts":
        names = burst_names(**options)
    elif kind == "lengths":
        return [_length_words(at, float(value)) for at, value in enumerate(x.tolist())]
    else:
        names = [f"feature {at}" for at in range(len(x))]
    return [f"{name} = {value:,.6g}" for name, value in zip(names, x.tolist(), strict=True)]


def feature_parts(x: NDArray[np.float32], model: Model) -> list[tuple[list[tuple[int, ...]], str]]:
    """Places in a flow's input and words of each part that is there."""
    if x.ndim == 1:
        words = feature_words(x, model)
        return [([(at,)], words[at]) for at in np.flatnonzero(x).tolist()]
    parts: list[tuple[list[tuple[int, ...]], str]] = []
    for at, (length, direction, gap) in enumerate(x[:, :3].tolist()):
        if direction:
            n_bytes = round(2 ** (16 * length) - 1)
            side = SIDES[0 if direction > 0 else 1]
            parts.append(([(at, 0), (at, 1)], f"packet {at + 1}: {n_bytes:,} bytes {side}"))
        if gap:
            ms = (10 ** (8 * gap) - 1) / 1000
            parts.append(([(at, 2)], f"packet {at + 1}: {ms:,.1f} ms after the one before"))
    return parts


def _length_words(at: int, value: float) -> str:
    if value == 0:
        return f"no packet {at + 1}"
    return f"packet {at + 1}: {abs(value):,.0f} bytes {SIDES[0 if value > 0 else 1]}"


def _side(segment: SegmentBytes) -> str:
    return SIDES[0 if segment.to_server else 1]
