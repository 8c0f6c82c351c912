"""The score card holds the figures of the measurements, unchanged."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_scorecard", DOCS / "make_scorecard.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_figure_is_the_one_of_its_measurement(script: ModuleType) -> None:
    card = json.loads((DOCS / "reports/data/scorecard.json").read_text("utf-8"))
    titles = [column["title"] for column in card["columns"]]
    assert titles == [title for title, _ in script.COLUMNS]
    assert len(card["rows"]) == len(script.HEADLINES)
    for headline, row in zip(script.HEADLINES, card["rows"], strict=True):
        shown = dict(zip(titles, row, strict=True))
        now, measurement = script.current(headline)
        assert shown["value (95 %)"] == now, "run make scorecard"
        assert shown["measured"] == measurement["measured"]
        assert measurement["command"] in shown["command"]


def test_a_headline_that_is_not_there_is_an_error(script: ModuleType) -> None:
    measurement = {"columns": [{"title": "a"}, {"title": "b"}], "rows": [["x", 1], ["x", 2]]}
    headline = script.HEADLINES[0]._replace(row={"a": "x"}, column="b")
    with pytest.raises(ValueError, match="2 rows are"):
        script.value(headline, measurement)
    with pytest.raises(ValueError, match="0 rows are"):
        script.value(headline._replace(row={"a": "y"}), measurement)
