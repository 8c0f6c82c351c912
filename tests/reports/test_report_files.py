"""A report's folder: files of an earlier report are replaced, anybody else's are not."""

import pytest

from apptell.errors import OutputError
from apptell.reports.report_files import RECORD_FILE, report_file, write_report_files

FILES = {"report.html": "<p>one</p>", "metrics.json": "{}"}


def test_an_earlier_report_is_replaced_and_other_files_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    write_report_files(tmp_path, FILES)
    write_report_files(tmp_path, {**FILES, "report.html": "<p>two</p>"})
    assert (tmp_path / "report.html").read_text() == "<p>two</p>"
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_user_with_a_reports_name_stops_the_report(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match="was not written by a report, or was changed since"):
        write_report_files(tmp_path, FILES)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_report_that_was_edited_is_the_users(tmp_path):
    write_report_files(tmp_path, FILES)
    (tmp_path / "report.html").write_text("<p>mine</p>")
    with pytest.raises(OutputError, match="was changed since"):
        write_report_files(tmp_path, FILES)
    assert (tmp_path / "report.html").read_text() == "<p>mine</p>"


def test_a_report_that_was_killed_half_way_can_be_written_again(tmp_path, monkeypatch):
    write_report_files(tmp_path, FILES)
    new = {"report.html": "<p>two</p>", "metrics.json": "[]"}
    real = __import__("apptell.files").files.write_files

    def killed(folder, files):
        if RECORD_FILE in files:
            return real(folder, files)
        real(folder, {"report.html": files["report.html"]})
        raise KeyboardInterrupt

    monkeypatch.setattr("apptell.reports.report_files.write_files", killed)
    with pytest.raises(KeyboardInterrupt):
        write_report_files(tmp_path, new)
    monkeypatch.undo()
    write_report_files(tmp_path, new)
    assert (tmp_path / "metrics.json").read_text() == "[]"


def test_a_single_file_of_a_report_is_noted_too(tmp_path):
    path = tmp_path / "verdicts.parquet"
    for content in ("one", "two"):
        with report_file(path):
            path.write_text(content)
    path.write_text("mine")
    with pytest.raises(OutputError, match="was changed since"), report_file(path):
        path.write_text("three")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("text", ["mine", "[]", '{"files": 5}', "[" * 100_000])
def test_a_record_that_is_none_is_refused(tmp_path, text):
    (tmp_path / RECORD_FILE).write_text(text)
    with pytest.raises(OutputError, match="not a valid list of report files; move it away"):
        write_report_files(tmp_path, FILES)
    assert (tmp_path / RECORD_FILE).read_text() == text
