"""Tables of numbers on narrow terminals."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from apptell.cli.screen import print_table

ROWS = [
    ("com.example.a-long-name-of-an-app", "1,234", "100.0%", "86.4%", "-"),
    ("b", "5", "0.0%", "1.0%", "-"),
]


def printed(width: int) -> str:
    table = Table(box=None, pad_edge=False)
    for number, title in enumerate(("app", "flows", "at 0.85: precision", "expected", "new")):
        table.add_column(title, justify="right" if number else "left")
    for row in ROWS:
        table.add_row(*row)
    stream = io.StringIO()
    print_table(table, Console(file=stream, width=width), least=((3,), (2,)))
    return stream.getvalue()


@pytest.mark.parametrize("width", [200, 60, 44, 38, 26])
def test_no_number_is_cut_and_no_line_is_too_long(width: int) -> None:
    shown = printed(width)
    assert "…" not in shown
    assert "1,234" in shown
    assert all(len(line.rstrip()) <= width for line in shown.splitlines())


def test_columns_are_left_out_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"new", "expected", "precision"} <= set(printed(200).split())
    shown = printed(42)
    assert "new" not in shown.split()
    assert {"100.0%", "86.4%", "precision"} <= set(shown.split())
    assert capsys.readouterr().err == ""
    assert "86.4%" not in printed(34)
    assert capsys.readouterr().err == "The terminal is too narrow for: expected (--json has all).\n"
    printed(20)
    assert "expected, at 0.85: precision" in capsys.readouterr().err
