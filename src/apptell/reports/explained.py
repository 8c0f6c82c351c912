"""Renders explanations of verdicts as one HTML page: evidence, contributions, bytes of the first packets."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.errors import CaptureError
from apptell.records.explanations import METHODS, NOT_A_REASON, places, similar_words
from apptell.reports.page import page_html
from apptell.reports.png import png

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

    from numpy.typing import NDArray

    from apptell.reasons.explanation import Explanation, ModelReason, SegmentBytes
    from apptell.reasons.similar_flows import SimilarFlows

_LINE_BYTES: Final = 32
SHOWN_BYTES: Final = 512
"""Bytes of each packet that are shown."""
_SHOWN_PARTS: Final = 25
_LEVELS: Final = 5
_FOR, _AGAINST = np.array([31, 95, 191.0]), np.array([217, 101, 15.0])


def explanations_html(
    found: Sequence[Explanation], title: str, words: Sequence[str] = (), command: str = ""
) -> str:
    """A page that needs no other file.

    Args:
        found: the explanations, each a section.
        title: the heading.
        words: paragraphs below it.
        command: what makes the page again.
    """
    return page_html(
        "explained.html",
        title,
        [*words, NOT_A_REASON],
        [],
        command,
        flows=[flow_values(each) for each in found],
    )


def explanations_page(stream: TextIO, found: Iterable[Explanation], command: str = "") -> int:
    """Writes a page of explanations and returns their number; what came before damage in a capture is written.

    Raises:
        CaptureError: the capture is damaged; after the page was written.
    """
    kept: list[Explanation] = []
    damage: CaptureError | None = None
    try:
        for each in found:
            kept.append(each)  # noqa: PERF402 - what came before an error counts
    except CaptureError as error:
        damage = error
    title = f"Reasons of {len(kept):,} verdict{'s' * (len(kept) != 1)}"
    stream.write(explanations_html(kept, title, command=command))
    if damage is not None:
        raise damage
    return len(kept)


def flow_values(found: Explanation) -> dict[str, Any]:
    """What the template shows of one flow."""
    verdict, reason = found.verdict, found.model
    name = verdict.server_name or verdict.http_host or verdict.dns_name
    server = f"{verdict.server_address}:{verdict.server_port}"
    heat = byte_heat(found)
    return {
        "title": f"{verdict.client_address}:{verdict.client_port} → {name or server}",
        "community_id": verdict.community_id,
        "app": verdict.app_name or verdict.app or verdict.service or verdict.outcome,
        "summary": found.summary,
        "steps": [(step.kind, step.words, step.decided, step.row or {}) for step in found.steps],
        "reason": None if reason is None else _reason_values(reason),
        "similar": None if found.similar is None else _similar_values(found.similar),
        "segments": [
            _segment_values(number, segment, levels)
            for number, (segment, levels) in enumerate(zip(found.segments, heat, strict=True), 1)
        ],
    }


def _reason_values(reason: ModelReason) -> dict[str, Any]:
    largest = max((abs(each.value) for each in reason.contributions), default=1.0) or 1.0
    shown = reason.strongest(_SHOWN_PARTS)
    rest = reason.contributions[len(shown) :]
    return {
        "model": reason.model,
        "method": METHODS[reason.method],
        "unit": reason.unit,
        "app": reason.app,
        "runner_up": reason.runner_up,
        "probability": f"{reason.probability:.3f}",
        "runner_up_probability": f"{reason.runner_up_probability:.3f}",
        "total": f"{reason.total:+.3f}",
        "base": f"{reason.base:+.3f}" if reason.adds_up else None,
        "rows": [
            {
                "value": f"{each.value:+.3f}",
                "is_for": each.value > 0,
                "share": f"{abs(each.value) / largest:.3f}",
                "field": each.field,
                "words": each.words,
                "where": places(each.spans),
            }
            for each in shown
        ],
        "rest": f"{sum(each.value for each in rest):+.3f}" if rest and reason.adds_up else None,
        "n_rest": len(rest),
        "unknown_parts": reason.unknown_parts,
        "saliency": None if reason.saliency is None else _data_url(saliency_png(reason.saliency)),
    }


def _similar_values(similar: SimilarFlows) -> dict[str, Any]:
    return {
        "words": similar_words(similar),
        "measure": similar.measure,
        "rows": [
            (f"{each.similarity:.3f}", each.app, each.group, each.n_flows)
            + (f"{each.n_shared} of {similar.n_parts}", "; ".join(each.shared))
            for each in similar.nearest
        ],
    }


def byte_heat(found: Explanation) -> list[NDArray[np.float64]]:
    """For each segment, what each of its bytes adds, from -1 (against) to 1 (for the app)."""
    heat = [np.zeros(len(segment.data)) for segment in found.segments]
    if found.model is not None:
        for each in found.model.contributions:
            n_bytes = sum(stop - start for _, start, stop in each.spans)
            for segment, start, stop in each.spans:
                if segment < len(heat):
                    heat[segment][start:stop] += each.value / max(n_bytes, 1)
    largest = max((float(np.abs(each).max(initial=0)) for each in heat), default=0.0)
    return [each / largest if largest else each for each in heat]


def _segment_values(
    number: int, segment: SegmentBytes, heat: NDArray[np.float64]
) -> dict[str, Any]:
    """Lines of runs of bytes, each of one field and one shade."""
    # the root makes small contributions visible
    level = (np.sign(heat) * np.ceil(np.sqrt(np.abs(heat)) * _LEVELS)).astype(int)
    begins = {start: name for start, _, name in segment.fields}
    ends = {stop for _, stop, _ in segment.fields}
    name_at = {at: name for start, stop, name in segment.fields for at in range(start, stop)}
    shown = min(len(segment.data), SHOWN_BYTES)
    lines = []
    for first in range(0, shown, _LINE_BYTES):
        cells = []
        for at in range(first, min(first + _LINE_BYTES, shown)):
            shade = f"p{level[at]}" if level[at] > 0 else f"n{-level[at]}" if level[at] else ""
            edges = " b" * (at in begins) + " e" * (at + 1 in ends)
            cells.append(
                (f"{segment.data[at]:02x}", f"{shade}{edges}".strip(), name_at.get(at, ""))
            )
        lines.append((f"{first:04d}", cells))
    return {
        "title": f"Packet {number}, {'to the server' if segment.to_server else 'to the client'}, "
        f"{segment.length:,} bytes",
        "lines": lines,
        "more": segment.length - shown,
    }


def saliency_png(saliency: NDArray[np.float64]) -> bytes:
    """Contributions by pixel as a picture: blue for the app, orange against it, white for nothing."""
    largest = float(np.abs(saliency).max(initial=0)) or 1.0
    depth = np.sqrt(np.abs(saliency) / largest)[..., None]
    ink = np.where((saliency > 0)[..., None], _FOR, _AGAINST)
    return png((255 + (ink - 255) * depth).astype(np.uint8))


def _data_url(picture: bytes) -> str:
    return f"data:image/png;base64,{b64encode(picture).decode()}"
