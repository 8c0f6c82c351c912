"""Draws the accuracy on each source as a strip plot, from docs/reports/data/models_by_source.json.

python docs/make_source_plot.py
"""

from __future__ import annotations

import json
from pathlib import Path

DOCS = Path(__file__).parent
WIDTH, HEIGHT, LEFT, RIGHT, AXIS = 720, 170, 30, 20, 130


def main() -> None:
    """Writes docs/img/models_by_source.svg."""
    data = json.loads((DOCS / "reports/data/models_by_source.json").read_text(encoding="utf-8"))
    body = []
    for tick in range(0, 11, 2):
        at = LEFT + (WIDTH - LEFT - RIGHT) * tick / 10
        body.append(f'<line x1="{at:.1f}" y1="20" x2="{at:.1f}" y2="{AXIS}" stroke="#ddd"/>')
        body.append(
            f'<text x="{at:.1f}" y="{AXIS + 16}" text-anchor="middle">{tick / 10:.1f}</text>'
        )
    taken: list[tuple[float, float]] = []
    for source, _, flows, accuracy, _ in sorted(data["rows"], key=lambda row: -row[2]):
        at, radius = LEFT + (WIDTH - LEFT - RIGHT) * accuracy, 2.5 + flows**0.5 * 0.7
        row = sum(abs(at - other) < radius + size for other, size in taken) % 5
        taken.append((at, radius))
        body.append(
            f'<circle cx="{at:.1f}" cy="{36 + 18 * row}" r="{radius:.1f}" fill="#2b6cb0" fill-opacity="0.55">'
            f"<title>{source}: {accuracy:.3f} of {flows} flows</title></circle>"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    body.append(
        f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">accuracy on a source; area: flows</text>'
    )
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        'font-family="sans-serif" font-size="12">\n' + "\n".join(body) + "\n</svg>\n"
    )
    (DOCS / "img/models_by_source.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
