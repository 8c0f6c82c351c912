"""Writes the tables of docs/reports/*.md from the measurements in docs/reports/data/.

    python docs/make_report_tables.py

A page says where a table stands, and everything between the two lines is replaced::

    <!-- table: live_soak -->
    <!-- end of table -->

``data/live_soak.json`` has the measurement: when it was made (``measured``), on which machine, with which
command, the columns with their number format, and the rows. A value is text, a number, two numbers (a range),
three numbers (a value and its interval), or null. ``names_real`` is taken from ``minute_one.json``.

Number formats, the same on every page: a ``share`` has three decimals, a ``count`` has separators of
thousands, and any other ``measure`` has at most three significant digits.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

REPORTS = Path(__file__).parent / "reports"
BLOCK = re.compile(r"<!-- table: (\w+) -->\n.*?<!-- end of table -->", re.DOTALL)
EMPTY = "–"
OUTCOMES = ("right", "related", "wrong", "service", "nothing")


def figure(value: float, number_format: str) -> str:
    """A number in its format."""
    if number_format == "share":
        return f"{value:.3f}"
    if number_format == "count" or abs(value) >= 1000:
        return f"{value:,.0f}"
    shown = f"{value:.3g}"
    return shown if "." in shown or abs(value) >= 100 else f"{shown}.0"


def cell(value: Any, number_format: str) -> str:
    """What a table shows for a value of the data."""
    if value is None:
        return EMPTY
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        shown = [figure(each, number_format) for each in value]
        between = f"{shown[-2]} to {shown[-1]}"
        return between if len(shown) == 2 else f"{shown[0]} ({between})"
    return figure(value, number_format)


def names_of_real_captures() -> dict[str, Any]:
    """The table of what names tell, from everything that ``benchmarks/minute_one.py`` measured."""
    found = json.loads((REPORTS / "minute_one.json").read_text(encoding="utf-8"))
    lines = [
        ("real, before", ("real", "before", "app_flows")),
        ("real", ("real", "after", "app_flows")),
        ("real, TCP", ("real", "after", "app_flows_tcp")),
        ("real, UDP", ("real", "after", "app_flows_udp")),
        ("messengers, before", ("messengers", "before", "app_flows")),
        ("messengers", ("messengers", "after", "app_flows")),
    ]
    rows = []
    for title, path in lines:
        part = found
        for key in path:
            part = part[key]
        shares = [part["by_flows"][outcome] for outcome in OUTCOMES]
        rows.append([title, part["flows"], *([s["share"], *s["interval"]] for s in shares)])
    titles = ("right", "related app", "wrong", "service only", "nothing")
    return {
        "measured": found["measured"],
        "columns": [
            {"title": "captures", "format": "text"},
            {"title": "app flows", "format": "count"},
            *({"title": title, "format": "share"} for title in titles),
        ],
        "rows": rows,
    }


def table(name: str) -> str:
    """A table in Markdown, with the date of the measurement and a link to its data."""
    if name == "names_real":
        file, data = "minute_one.json", names_of_real_captures()
    else:
        file = f"data/{name}.json"
        data = json.loads((REPORTS / file).read_text(encoding="utf-8"))
    columns = data["columns"]
    lines = [" | ".join(column["title"] for column in columns), " | ".join(["---"] * len(columns))]
    for row in data["rows"]:
        pairs = zip(row, columns, strict=True)
        lines.append(" | ".join(cell(value, column["format"]) for value, column in pairs))
    body = "\n".join(f"| {line} |" for line in lines)
    return f"{body}\n\nMeasured on {data['measured']}; data: [{Path(file).name}]({file}).\n"


def page(text: str) -> str:
    """The text of a page with its tables made from the data."""
    return BLOCK.sub(
        lambda match: f"<!-- table: {match[1]} -->\n{table(match[1])}<!-- end of table -->", text
    )


def main() -> None:
    """Rewrites the tables of every report."""
    for path in sorted(REPORTS.glob("*.md")):
        path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
