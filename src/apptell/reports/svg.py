"""Draws figures as inline SVG, with colours from the page's style."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH: Final = 520
_HEIGHT: Final = 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 14, 44


def histogram_figure(histogram: dict[str, Any]) -> str:
    """Fig. 3: right and wrong verdicts by confidence, as shares of the right and of the wrong."""
    edges = histogram["edges"]
    right = _shares(histogram["right"])
    wrong = _shares(histogram["wrong"])
    top = _ceiling(max(*right, *wrong, 0.1))
    low = edges[0]
    parts = [_axes("confidence", "share of verdicts", low, 1.0, 0.0, top)]
    for i, (good, bad) in enumerate(zip(right, wrong, strict=True)):
        left, end = _x(edges[i], low, 1.0), _x(edges[i + 1], low, 1.0)
        half = (end - left) / 2
        span = f"confidence {edges[i]:.2f} to {edges[i + 1]:.2f}"
        parts.append(_bar(left + 1, half - 1.5, good, top, "right", f"{span}: {good:.1%} of right"))
        parts.append(_bar(left + half, half - 1, bad, top, "wrong", f"{span}: {bad:.1%} of wrong"))
    parts.append(_legend((("right", "right verdicts"), ("wrong", "wrong verdicts"))))
    return _svg(_WIDTH, _HEIGHT, "Right and wrong verdicts by confidence", parts)


def coverage_figure(points: Sequence[dict[str, float]], coverage: float, precision: float) -> str:
    """Precision against coverage, the threshold in use marked."""
    if not points:
        return ""
    low = min(0.9, _floor(min([point["precision"] for point in points] + [precision])))
    line = " ".join(
        f"{_x(p['coverage'], 0, 1):.1f},{_y(p['precision'], low, 1.0):.1f}" for p in points
    )
    mark = f'cx="{_x(coverage, 0, 1):.1f}" cy="{_y(precision, low, 1.0):.1f}"'
    parts = [
        _axes("coverage: share of flows accepted", "share right", 0.0, 1.0, low, 1.0),
        f'<polyline class="line" points="{line}"/>',
    ]
    if coverage > 0:
        title = f"<title>coverage {coverage:.1%}, right {precision:.1%}</title>"
        parts.append(f'<circle class="mark" {mark} r="5">{title}</circle>')
    return _svg(_WIDTH, _HEIGHT, "Coverage and precision", parts)


def reliability_figure(bins: Sequence[dict[str, float]]) -> str:
    """Accuracy against confidence; on the diagonal they are equal."""
    parts = [
        _axes("confidence", "share right", 0.0, 1.0, 0.0, 1.0),
        (
            f'<line class="faint" x1="{_x(0, 0, 1):.1f}" y1="{_y(0, 0, 1):.1f}" '
            f'x2="{_x(1, 0, 1):.1f}" y2="{_y(1, 0, 1):.1f}"/>'
        ),
    ]
    if bins:
        line = " ".join(
            f"{_x(b['confidence'], 0, 1):.1f},{_y(b['accuracy'], 0, 1):.1f}" for b in bins
        )
        parts.append(f'<polyline class="line" points="{line}"/>')
    for row in bins:
        title = (
            f"<title>confidence {row['confidence']:.2f}: {row['accuracy']:.1%} "
            f"of {row['flows']:,} flows right</title>"
        )
        parts.append(
            f'<circle class="mark" cx="{_x(row["confidence"], 0, 1):.1f}" '
            f'cy="{_y(row["accuracy"], 0, 1):.1f}" r="4">{title}</circle>'
        )
    return _svg(_WIDTH, _HEIGHT, "Reliability", parts)


def confusion_figure(apps: Sequence[str], confusion: Sequence[Sequence[int]]) -> str:
    """Fig. 4: true app by row, given app by column; a cell's shade is its share of the row."""
    names = 8 * max(len(app) for app in apps) + 16
    cell = 54 if len(apps) <= 12 else 34
    width, height = names + cell * len(apps) + 8, names + cell * len(apps) + 8
    parts = []
    for i, app in enumerate(apps):
        middle = names + cell * i + cell / 2
        label = escape(app)
        parts.append(f'<text x="{names - 8}" y="{middle + 4}" text-anchor="end">{label}</text>')
        parts.append(
            f'<text x="{middle + 4}" y="{names - 8}" '
            f'transform="rotate(-90 {middle + 4} {names - 8})">{label}</text>'
        )
        total = sum(confusion[i])
        for j, count in enumerate(confusion[i]):
            share = count / total if total else 0.0
            kind = "hit" if i == j else "miss"
            at = f'x="{names + cell * j}" y="{names + cell * i}"'
            title = f"{label} given as {escape(apps[j])}: {count:,} of {total:,}"
            # The root makes small shares visible.
            parts.append(
                f'<rect class="{kind}" {at} width="{cell - 2}" height="{cell - 2}" rx="4" '
                f'fill-opacity="{share**0.5:.3f}"><title>{title}</title></rect>'
            )
            if count:
                tone = "dark" if share > 0.35 else "count"
                parts.append(
                    f'<text class="{tone}" x="{names + cell * j + cell / 2 - 1}" '
                    f'y="{names + cell * i + cell / 2 + 4}" text-anchor="middle">{count}</text>'
                )
    return _svg(width, height, "Confusion: true app by row, given app by column", parts)


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, low: float, high: float) -> float:
    return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _axes(across: str, up: str, x_low: float, x_high: float, y_low: float, y_high: float) -> str:
    """Both axes with five steps each."""
    parts = []
    for step in range(6):
        x_value = x_low + (x_high - x_low) * step / 5
        y_value = y_low + (y_high - y_low) * step / 5
        x, y = _x(x_value, x_low, x_high), _y(y_value, y_low, y_high)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{y_value:.0%}</text>'
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">'
            f"{x_value:.1f}</text>"
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{across}</text>')
    height = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text x="12" y="{height}" text-anchor="middle" transform="rotate(-90 12 {height})">'
        f"{up}</text>"
    )
    return "".join(parts)


def _bar(x: float, width: float, share: float, top: float, kind: str, title: str) -> str:
    y = _y(share, 0.0, top)
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{_HEIGHT - _BOTTOM - y:.1f}"><title>{title}</title></rect>'
    )


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    parts = []
    for i, (kind, text) in enumerate(entries):
        y = _TOP + 6 + 18 * i
        parts.append(
            f'<rect class="{kind}" x="{_LEFT + 14}" y="{y}" width="11" height="11" rx="2"/>'
            f'<text x="{_LEFT + 32}" y="{y + 10}">{text}</text>'
        )
    return "".join(parts)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def _ceiling(value: float) -> float:
    """The next tenth above."""
    return min(1.0, -(-value * 10 // 1) / 10)


def _floor(value: float) -> float:
    """The next tenth below."""
    return max(0.0, value * 10 // 1 / 10)
