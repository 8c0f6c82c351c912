import csv
import json

import pytest

from apptell.errors import OutputError
from apptell.reports.page import Section, shown, write_page


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
