"""Draws the accuracy over FG-Net's two months and over the lab's days, from docs/reports/data/year*.json.

python docs/make_year_plot.py
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

DOCS = Path(__file__).parent
WIDTH, HEIGHT, LEFT, RIGHT, TOP, AXIS = 720, 300, 48, 130, 20, 250
LOW = 0.5
COLOURS = {"with updates": "#2b6cb0", "without": "#c05621"}


def main() -> None:
    """Writes docs/img/year.svg and year_lab.svg."""
    draw("year", "period", "draws of the new apps", months=True)
    draw("year_lab", "day", "seeds, one app at a time", months=False)


def draw(name: str, unit: str, runs_are: str, *, months: bool) -> None:
    """Draws the rows of a table, one line for each seed and their mean.

    Args:
        name: of the table and of the picture.
        unit: of the periods.
        runs_are: what the lines are.
        months: whether a line divides the second period from the third.
    """
    data = json.loads((DOCS / f"reports/data/{name}.json").read_text(encoding="utf-8"))
    titles = [column["title"] for column in data["columns"]]
    places = [titles.index(f"right {how.split()[0]}") for how in COLOURS]
    runs: dict[int, list[list[float]]] = defaultdict(list)
    for row in data["rows"]:
        runs[row[titles.index("seed")]].append([row[place] for place in places])
    n = min(len(run) for run in runs.values())

    def x(period: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * period / (n - 1)

    def y(share: float) -> float:
        return AXIS - (AXIS - TOP) * (share - LOW) / (1 - LOW)

    body = []
    for tick in range(5, 11):
        at = y(tick / 10)
        body.append(
            f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#ddd"/>'
            f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tick / 10:.1f}</text>'
        )
    for period in range(n):
        body.append(
            f'<text x="{x(period):.1f}" y="{AXIS + 18}" text-anchor="middle">{period + 1}</text>'
        )
    if months:
        between = x(1.5)
        body.append(
            f'<line x1="{between:.1f}" y1="{TOP}" x2="{between:.1f}" y2="{AXIS}" stroke="#999" '
            'stroke-dasharray="4 3"/>'
            f'<text x="{between - 6:.1f}" y="{TOP + 12}" text-anchor="end">month 0</text>'
            f'<text x="{between + 6:.1f}" y="{TOP + 12}">month 1</text>'
        )
    for number, (how, colour) in enumerate(COLOURS.items()):
        for run in runs.values():
            points = " ".join(f"{x(p):.1f},{y(run[p][number]):.1f}" for p in range(n))
            body.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-opacity="0.35"/>'
            )
        mean = [sum(run[p][number] for run in runs.values()) / len(runs) for p in range(n)]
        points = " ".join(f"{x(p):.1f},{y(mean[p]):.1f}" for p in range(n))
        body.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{WIDTH - RIGHT + 10}" y="{y(mean[-1]) + 4:.1f}" fill="{colour}">{how}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    body.append(
        f'<text x="{middle:.1f}" y="{HEIGHT - 10}" text-anchor="middle">'
        f"{unit}; share of flows given to their app; thick: mean of {len(runs)} {runs_are}</text>"
    )
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        'font-family="sans-serif" font-size="12">\n' + "\n".join(body) + "\n</svg>\n"
    )
    (DOCS / f"img/{name}.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
