import io
import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from apptell.records.schema import flow_records, verdict_records
from apptell.records.text_table import (
    FLOW_COLUMNS,
    VERDICT_COLUMNS,
    TableWriter,
    fit,
    human_bytes,
    in_zone,
)
from apptell.testing import flow_batch
from apptell.verdicts import decide

from .fakes import verdicts


def _table(columns: tuple, *batches: pa.RecordBatch) -> list[str]:
    stream = io.StringIO()
    writer = TableWriter(stream, columns)
    for batch in batches:
        writer.write(batch)
    writer.close()
    return stream.getvalue().splitlines()


def test_a_table_has_one_heading_and_one_line_for_each_record() -> None:
    lines = _table(VERDICT_COLUMNS, *[verdict_records(verdicts(0.9, 0.5)) for _ in range(2)])
    assert len(lines) == 5
    assert lines[0].split()[-3:] == ["category", "evidence", "confidence"]
    assert lines[1].split() == [
        "2023-11-14",
        "22:13:20",
        "192.168.1.2:40000",
        "tcp",
        "203.0.113.10:443",
        "signal",
        "model",
        "0.900",
    ]
    # A flow that no app is named of shows the best guess, with a question mark.
    assert lines[2].split()[5:] == ["(signal?)", "0.500"]


def test_the_server_s_name_is_shown_where_it_is_known() -> None:
    flows = flow_batch(["zoom"]).with_columns(server_name=["zoom.example"])
    (_, line) = _table(FLOW_COLUMNS, flow_records(flows, ["core", "names"]))
    assert "zoom.example" in line
    (_, line) = _table(FLOW_COLUMNS, flow_records(flows, ["core"]))
    assert "203.0.113.10:443" in line


def test_a_name_cannot_send_commands_to_the_terminal() -> None:
    assert fit("\x1b[31mred\x07\u202e", 20) == "?[31mred??"


def test_rich_markup_in_a_name_is_just_text() -> None:
    flows = flow_batch(["zoom"]).with_columns(server_name=["[bold]a.example[/bold]"])
    assert (
        "[bold]a.example[/bold]" in _table(FLOW_COLUMNS, flow_records(flows, ["core", "names"]))[1]
    )


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [("abc", 3, "abc"), ("abcd", 3, "a…d"), ("abcdef", 4, "a…ef"), ("", 3, "")],
)
def test_long_text_loses_its_middle(text: str, width: int, shown: str) -> None:
    assert fit(text, width) == shown


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (2_500_000, "2.5 MB"), (3e15, "3000.0 TB")],
)
def test_bytes_are_shown_in_decimal_units(n_bytes: float, shown: str) -> None:
    assert human_bytes(n_bytes) == shown


def test_times_are_in_the_zone_that_is_asked_for() -> None:
    flows = flow_batch(["zoom"])
    columns = in_zone(FLOW_COLUMNS, ZoneInfo("Asia/Kolkata"), "Asia/Kolkata")
    head, line = _table(columns, flow_records(flows, ["core"]))
    _, in_utc = _table(FLOW_COLUMNS, flow_records(flows, ["core"]))
    assert "time (Asia/Kolkata)" in head
    times = [datetime.fromisoformat(" ".join(each.split()[:2])) for each in (line, in_utc)]
    assert times[0] - times[1] == timedelta(hours=5, minutes=30)


@pytest.mark.parametrize("columns", [VERDICT_COLUMNS, FLOW_COLUMNS])
def test_addresses_are_whole_and_columns_stay_in_line(columns: tuple) -> None:
    long = "2001:db8:1234:5678:9abc:def0:1234:5678"
    flows = flow_batch(["zoom"] * 2).with_columns(
        client_address=["10.0.0.1", long], server_address=[long, "192.0.2.1"]
    )
    if columns is FLOW_COLUMNS:
        batch = flow_records(flows, ["core"])
    else:
        verdict = decide(flows, np.array([[0.9, 0.1]] * 2, np.float32), ["zoom", "x"], 0.5, "m@1")
        batch = verdict_records(verdict)
    head, first, second = _table(columns, batch)
    assert f"[{long}]:443" in first
    assert f"[{long}]:40001" in second
    at = head.index("server")
    assert first[at - 1] == second[at - 1] == " "
    assert first[at] == "["
    assert second[at:].startswith("192.0.2.1")


def test_ipv6_endpoints_have_brackets() -> None:
    flows = flow_batch(["zoom"]).with_columns(client_address=["2001:db8::1"])
    assert "[2001:db8::1]:40000" in _table(FLOW_COLUMNS, flow_records(flows, ["core"]))[1]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (140, "time (UTC) client proto server app or service category evidence confidence"),
        (110, "time (UTC) client proto server app or service evidence confidence"),
        (80, "time (UTC) client server app or service confidence"),
    ],
)
def test_a_narrow_terminal_goes_without_what_matters_least(
    width: int, headings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    name = "a-long-name.of-a-server.example"
    flows = flow_batch(["zoom"] * 2).with_columns(server_name=[name] * 2)
    batch = verdict_records(
        decide(flows, np.array([[0.9, 0.1]] * 2, np.float32), ["zoom", "x"], 0.5, "m@1")
    )
    stream = _Terminal()
    writer = TableWriter(stream, VERDICT_COLUMNS)
    writer.write(batch)
    plain = re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue()).splitlines()
    assert plain[0].split() == headings.split()
    assert max(map(len, plain)) <= width
    assert all("192.168.1.2:4000" in line for line in plain[1:])
    assert all(line.endswith("0.900") for line in plain[1:])
    assert ("2023-11-14" in plain[1]) == (width == 140)
