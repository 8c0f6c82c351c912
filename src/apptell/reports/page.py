"""Writes a report of tables and figures: report.html, metrics.json, and a CSV for each table.

CSV and JSON hold the full numbers; the page rounds them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from apptell._version import __version__
from apptell.records.forms.csv import csv_line, guarded
from apptell.reports.report_files import write_report_files
from apptell.templates import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TEMPLATES: Final = Path(__file__).parent / "templates"
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
        folder: created if it is missing.
        title: the heading.
        words: what was done, in plain sentences.
        sections: in order.
        metrics: the content of ``metrics.json``.
        command: the command that creates this report again.

    Raises:
        OutputError: the folder cannot be written, or holds files of these names that no report wrote.
    """
    files = {
        "report.html": page_html("page.html", title, words, sections, command),
        "metrics.json": json.dumps(metrics, indent=2, ensure_ascii=False) + "\n",
        **{f"{s.name}.csv": csv_text(s.head, s.rows) for s in sections if s.rows},
    }
    write_report_files(folder, files)


def shown(cell: Cell) -> str:
    """A cell as text: shares in percent, counts with thousands separators."""
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


def page_html(
    template: str,
    title: str,
    words: Sequence[str],
    sections: Sequence[Section],
    command: str = "",
    **more: Any,
) -> str:
    """A page that needs no other file.

    Args:
        template: its name in ``templates``: ``page.html`` or one that extends it.
        title: the heading.
        words: paragraphs.
        sections: in order.
        command: the command that creates the page again.
        more: further values for the template.
    """
    style = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    return render(
        _TEMPLATES / template,
        title=title,
        words=words,
        sections=[_shown_section(section) for section in sections],
        command=command,
        version=__version__,
        style=Markup(style),
        **more,
    )


def _shown_section(section: Section) -> dict[str, Any]:
    return {
        "title": section.title,
        "words": section.words,
        "head": section.head,
        "rows": [[shown(cell) for cell in row] for row in section.rows],
        "figure": Markup(section.figure),
        "link": section.link or {},
    }


def csv_text(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table as CSV: numbers in full, an interval as ``low..high``, None as an empty cell."""
    lines = [csv_line([_csv_cell(cell) for cell in row]) for row in (head, *rows)]
    return "\n".join(lines) + "\n"


def _csv_cell(cell: Cell) -> Cell:
    if isinstance(cell, tuple):
        return f"{cell[0]}..{cell[1]}"
    return guarded(cell) if isinstance(cell, str) else cell
