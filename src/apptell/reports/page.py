"""Tables, figures and words in; a report's folder out: report.html, metrics.json, a CSV for each table.

Numbers are written once: the page rounds what CSV and JSON hold in full.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apptell._version import __version__
from apptell.records.forms.csv import csv_line, guarded
from apptell.reports.folder import write_report_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Cell = str | int | float | tuple[float, float] | None
"""A text, a count, a share (0 to 1), an interval of shares, or nothing."""


@dataclass(frozen=True, slots=True)
class Section:
    """A table, a figure or both, with a title."""

    name: str
    """The CSV's name without its ending."""
    title: str
    words: str = ""
    """What it shows, in plain words."""
    head: Sequence[str] = ()
    """Column titles."""
    rows: Sequence[Sequence[Cell]] = ()
    figure: str = ""
    """Inline SVG."""
    link: Mapping[str, str] | None = None
    """First cell of a row to the page it leads to."""


def write_page(
    folder: Path,
    title: str,
    words: Sequence[str],
    sections: Sequence[Section],
    metrics: Mapping[str, Any],
    command: str = "",
) -> None:
    """Writes the report; files of an earlier report are replaced, a user's are not.

    Args:
        folder: made when it is not there.
        title: the heading.
        words: what was done, in plain sentences.
        sections: in order.
        metrics: the content of ``metrics.json``.
        command: what makes this report again.

    Raises:
        OutputError: the folder cannot be written, or holds files of these names that no report wrote.
    """
    files = {
        "report.html": _page(title, words, sections, command),
        "metrics.json": json.dumps(metrics, indent=2, ensure_ascii=False) + "\n",
        **{f"{s.name}.csv": csv_text(s.head, s.rows) for s in sections if s.rows},
    }
    write_report_files(folder, files)


def shown(cell: Cell) -> str:
    """A cell as people read it: shares in percent, counts with thousands apart."""
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:.2%}"
    if isinstance(cell, tuple):
        return f"{cell[0]:.1%} to {cell[1]:.1%}"
    return cell


def _page(title: str, words: Sequence[str], sections: Sequence[Section], command: str) -> str:
    style = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    body = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in words),
        f"<pre>{escape(command)}</pre>" if command else "",
        *map(section_html, sections),
        (
            f"<footer>apptell {escape(__version__)}. The same numbers, for programs: metrics.json and "
            "the CSV files.</footer>"
        ),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def section_html(section: Section) -> str:
    """A section of a page."""
    table = ""
    if section.rows:
        head = "".join(f"<td>{escape(name)}</td>" for name in section.head)
        rows = "".join(
            "<tr>" + "".join(_cell(section, i, cell) for i, cell in enumerate(row)) + "</tr>"
            for row in section.rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    words = f"<p>{escape(section.words)}</p>" if section.words else ""
    return (
        f"<section><h2>{escape(section.title)}</h2>{words}"
        f'<div class="scroll">{section.figure}{table}</div></section>'
    )


def _cell(section: Section, column: int, cell: Cell) -> str:
    text = escape(shown(cell))
    if column == 0:
        page = (section.link or {}).get(text)
        return f'<th><a href="{escape(page)}">{text}</a></th>' if page else f"<th>{text}</th>"
    # Sentences wrap; numbers stand in line.
    long = ' style="white-space:normal;text-align:left"' if len(text) > 32 else ""
    return f"<td{long}>{text}</td>"


def csv_text(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table as CSV: numbers in full, an interval as ``low..high``, nothing as nothing."""
    lines = [csv_line(head), *(csv_line([_csv_cell(cell) for cell in row]) for row in rows)]
    return "\n".join(lines) + "\n"


def _csv_cell(cell: Cell) -> Cell:
    if isinstance(cell, tuple):
        return f"{cell[0]}..{cell[1]}"
    return guarded(cell) if isinstance(cell, str) else cell
