import csv
import json
import re

import numpy as np
import pytest

from apptell.dataset.dataset_card import card
from apptell.errors import OutputError
from apptell.evaluation import evaluate_predictions
from apptell.learning.model_card import model_card
from apptell.reports.html import ReportText, evaluation_page
from apptell.reports.page import Section, shown, write_page
from apptell.reports.svg import confusion_figure


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (0.12345, "12.35%"),
        (1234, "1,234"),
        ((0.1, 0.25), "10.0% to 25.0%"),
        (None, "–"),
        ("a", "a"),
    ],
)
def test_people_read_shares_in_percent_and_counts_with_thousands_apart(cell, text):
    assert shown(cell) == text


def test_page_csv_and_json_hold_the_same_numbers(tmp_path):
    rows = [("<app>", 0.5, 12, (0.25, 0.75))]
    section = Section("scores", "Scores", "words", ("app", "share", "flows", "95 %"), rows)
    write_page(tmp_path / "r", "T & U", ["done"], [section], {"share": 0.5}, "apptell x")
    page = (tmp_path / "r" / "report.html").read_text()
    assert "T &amp; U" in page
    assert "&lt;app&gt;" in page
    assert "50.00%" in page
    assert "http" not in page
    with (tmp_path / "r" / "scores.csv").open() as file:
        assert list(csv.reader(file))[1] == ["<app>", "0.5", "12", "0.25..0.75"]
    assert json.loads((tmp_path / "r" / "metrics.json").read_text()) == {"share": 0.5}


def test_a_place_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_page(tmp_path / "file" / "r", "t", [], [], {})


def test_no_name_in_a_page_is_markup_and_no_name_in_a_csv_a_formula(tmp_path):
    name = "=<script>alert(1)</script>\"'&"
    figure = confusion_figure([name, "b"], [[1, 0], [0, 1]])
    rows = [(name, 0.5), ("b", None)]
    section = Section("s", name, name, (name, "x"), rows, figure, {"b": "b&c/report.html"})
    write_page(tmp_path, name, [name], [section], {"app": name}, name)
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8
    assert '<a href="b&amp;c/report.html">b</a>' in page
    with (tmp_path / "s.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert cells.count(f"'{name}") == 2
    assert not any(cell.startswith("=") for cell in cells)


def test_cards_show_hostile_names_as_text():
    counts = {"<img src=x>|a": 3}
    info = {
        "n_flows": 3, "apps": counts, "groups": {"<b>": counts}, "label_from": counts,
        "dropped": counts, "sources": [{"damage": "[x](y)\n# z"}], "flow_schema": 1,
        "written_by": "apptell", "hash": "ab" * 20, "done": ["<i>"], "late_views": 0,
        "encoding": {"segments": 1, "segment_bytes": 2000, "sequence": 3},
    }  # fmt: skip
    model = {
        "name": "<m>", "apps": ["<img>|x"], "inputs": "i", "encoding": 1, "options": {},
        "threshold": None, "seed": 0, "created": "now", "versions": {"numpy": "1", "x": "2"},
        "data": {"flows": 3, "hash": "ab", "per_app": {"<img>|x": 3}}, "metrics": {"<u>": 0.5},
    }  # fmt: skip
    for text in (card(info), model_card(model, "<p> *x*")):
        assert "<" not in text
        assert "\n# z" not in text
        assert "*x*" not in text
    assert "| &lt;img&gt;\\|x | 3 |" in model_card(model, "")
    assert "numpy 1, x 2" in model_card(model, "")


def test_the_page_of_an_evaluation_shows_hostile_app_names_as_text():
    apps = ["<b>a</b>", "c&d"]
    truth = np.array(apps * 20)
    probabilities = np.tile([[0.9, 0.1], [0.3, 0.7]], (20, 1))
    slices = {"hello": np.array(["<i>", "none"] * 20)}
    result = evaluate_predictions(truth, probabilities, apps, slices=slices)
    image = np.zeros((87, 87), np.uint8)
    section = Section("s", "More", "", ("app",), [("<u>",)])
    text = ReportText("<h1>", ["<p>"], "a < b", [("<em>", image)], [section])
    page = evaluation_page(result, text)
    tags = set(re.findall(r"<([a-z0-9]+)", page))
    assert not tags & {"b>a", "i", "u", "em"}
    assert "<b>a" not in page
    assert "&lt;b&gt;a&lt;/b&gt;" in page
    for words in (
        "Per app",
        "Confusion",
        "Coverage and precision at each threshold",
        "Where it is right",
        "More",
    ):
        assert f"<h2>{words}" in page
    assert page.count("<section>") == page.count("</section>") >= 7
    assert page.count("<div") == page.count("</div>")
