"""Every table of the reports is what its script makes of the committed measurements."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted((DOCS / "reports").glob("*.md"))
DATA = sorted((DOCS / "reports/data").glob("*.json"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", DOCS / "make_report_tables.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_tables_of_a_page_are_those_that_the_script_makes(
    script: ModuleType, path: Path
) -> None:
    text = path.read_text(encoding="utf-8")
    assert script.page(text) == text, "run python docs/make_report_tables.py"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_table_of_a_page_is_written_by_hand(script: ModuleType, path: Path) -> None:
    text = script.BLOCK.sub("", path.read_text(encoding="utf-8"))
    assert not [line for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_shares_have_a_digit_before_the_point(path: Path) -> None:
    assert not re.findall(r"(?<![\w.`/])\.\d+", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_a_measurement_says_when_where_and_how_it_was_made_and_is_shown(path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", data["measured"])
    assert data["machine"]
    assert data["command"]
    assert all(len(row) == len(data["columns"]) for row in data["rows"])
    assert any(f"<!-- table: {path.stem} -->" in page.read_text("utf-8") for page in PAGES)


@pytest.mark.parametrize(
    ("value", "number_format", "shown"),
    [
        (0.5, "share", "0.500"),
        ([0.5, 0.25, 0.75], "share", "0.500 (0.250 to 0.750)"),
        ([0.25, 0.75], "share", "0.250 to 0.750"),
        (1234567, "count", "1,234,567"),
        (18.06, "measure", "18.1"),
        (1, "measure", "1.0"),
        (1234.5, "measure", "1,234"),
        (None, "share", "–"),
        ("as it is", "text", "as it is"),
    ],
)
def test_numbers_have_one_format(
    script: ModuleType, value: object, number_format: str, shown: str
) -> None:
    assert script.cell(value, number_format) == shown
