"""Verdicts as tables, and slices of batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import apptell
from apptell.errors import UsageError
from apptell.testing import app_capture, flow_batch, write_pcap
from tests.records.fakes import verdicts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write_pcap(tmp_path / "a.pcap", app_capture(["signal", "zoom"], 2))


@pytest.mark.parametrize("library", ["arrow", "pandas", "polars"])
def test_a_capture_becomes_a_table_in_one_call(capture: Path, library: Any) -> None:
    pytest.importorskip({"arrow": "pyarrow"}.get(library, library))
    table = apptell.identify_table(capture, to=library)
    names = table.schema.names if library == "arrow" else list(table.columns)
    assert names[0] == "time"
    assert {"app", "server_name", "outcome"} <= set(names)
    column = (
        table.column("server_name").to_pylist()
        if library == "arrow"
        else list(table["server_name"])
    )
    assert column == ["signal.example", "zoom.example"] * 2
    assert len(list(apptell.identify(capture))) == len(column)


def test_other_libraries_are_refused(capture: Path) -> None:
    with pytest.raises(UsageError, match=r"^'excel' is none of arrow, pandas, polars$"):
        apptell.identify_table(capture, to="excel")  # type: ignore[arg-type]


def test_batches_are_sliced_as_lists() -> None:
    flows = flow_batch(["a", "b", "c", "d"])
    assert flows[1:3].column("label").to_pylist() == ["b", "c"]
    assert flows[::-2].column("label").to_pylist() == ["d", "b"]
    assert len(flows[9:]) == 0
    found = verdicts(0.9, 0.8, 0.7)
    assert [round(each.confidence, 2) for each in found[1:]] == [0.8, 0.7]
    assert round(found[-1].confidence, 2) == 0.7
    assert len(found[:0]) == 0
    with pytest.raises(IndexError):
        found[3]
