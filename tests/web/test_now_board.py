"""The board counts every byte of every flow once, in the step in which it was seen."""

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("starlette")
from apptell.records.schema import LIVE_RECORD
from apptell.service.metrics import Histogram
from apptell.web import now_board, window_sums
from apptell.web.now_board import N_STEPS, STEP_S, NowBoard
from apptell.web.now_feed import quantile
from tests.history.rows import flow, verdict_of

TOTALS = np.dtype([("connection_id", "u8"), ("part", "i4"), ("packets", "i8"), ("bytes", "i8")])


COLUMN = {"client": "client_address"}


def bytes_of(row: dict[str, Any]) -> int:
    return int(row["bytes_to_server"] + row["bytes_to_client"])


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> NowBoard:
    return NowBoard(clock)


def records(*rows: dict) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), LIVE_RECORD)


def test_the_last_minutes_of_a_source_that_has_ended_stay(board: NowBoard, clock: Clock) -> None:
    board.write(records(flow(1)))
    before = board.view({})
    assert before["flows"] == 1
    board.end()
    clock.now += 3600
    assert board.view({}) == before


def test_bytes_of_a_flow_are_counted_once_as_they_come(board: NowBoard, clock: Clock) -> None:
    end = flow(1)  # 1,001 bytes; its verdict had 300
    board.write(records(verdict_of(end)))
    clock.now += STEP_S
    board.meter(np.array([(end["connection_id"], 0, 5, 700), (77, 0, 1, 9999)], TOTALS))
    clock.now += STEP_S
    board.write(records(end))
    view = board.view({})
    assert view["series"][0]["bytes"][-3:] == [300, 400, 301]
    assert (view["bytes"], view["flows"]) == (1001, 1)
    assert view["top"]["app"] == [{"key": "signal", "label": "Signal", "bytes": 1001, "flows": 1}]


def test_a_flow_that_ends_without_an_earlier_verdict_counts_whole(board: NowBoard) -> None:
    board.write(records(flow(1), flow(2)))
    assert (board.view({})["bytes"], board.view({})["flows"]) == (1001 + 1002, 2)


def test_what_is_older_than_the_window_is_forgotten(board: NowBoard, clock: Clock) -> None:
    board.write(records(flow(1)))
    clock.now += STEP_S * (N_STEPS - 1)
    assert board.view({})["series"][0]["bytes"][0] == 1001
    clock.now += STEP_S
    assert board.view({})["bytes"] == 0
    board.write(records(flow(2)))
    assert board.view({})["bytes"] == 1002
    board.write(records(flow(3, app="zoom")))
    clock.now += STEP_S * (N_STEPS - 1)
    board.write(records(flow(4)))
    clock.now += STEP_S * N_STEPS // 2
    assert board.view({})["bytes"] == 1004
    assert len(board._sums) == 1, "what has no flow in the window is dropped"


def test_a_view_is_narrowed_to_values_and_to_none(board: NowBoard) -> None:
    board.write(records(
        verdict_of(flow(1)), verdict_of(flow(2, app="zoom", app_name="Zoom", category="conferencing")),
        verdict_of(flow(3, app=None, app_name=None, category=None, service="Fonts", outcome="shared service")),
    ))  # fmt: skip
    assert [row["key"] for row in board.view({"app": "zoom"})["top"]["app"]] == ["zoom"]
    assert board.view({"app": ""})["top"]["service"][0]["key"] == "Fonts"
    assert board.view({"client": "10.0.0.2", "app": "zoom"})["flows"] == 0
    assert len(board.view({"app": "zoom"})["latest"]) == 1
    assert {row["key"]: row["flows"] for row in board.view({})["top"]["outcome"]} == {
        "named": 2,
        "shared service": 1,
    }


def test_flows_of_apps_and_of_background_are_counted_apart(board: NowBoard) -> None:
    board.write(records(
        verdict_of(flow(1)), verdict_of(flow(2, app="other", app_name=None, category=None)),
        verdict_of(flow(3, app=None, app_name=None, category=None, outcome="low confidence")),
    ))  # fmt: skip
    found = board.view({})
    assert (found["flows"], found["named"], found["background"]) == (3, 1, 1)


def test_many_clients_and_flows_stay_within_bounds(
    board: NowBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_sums, "MOST_ROWS", 10)
    monkeypatch.setattr(now_board, "_MOST_OPEN", 5)
    board.write(records(*(verdict_of(flow(i, client_address=f"c{i}")) for i in range(100))))
    assert len(board._open) == 5
    assert len(board._sums) == 11
    assert board.view({})["flows"] == 100
    assert board.view({"client": "others"})["flows"] == 90


def test_a_view_of_many_flows_is_what_plain_sums_give(clock: Clock) -> None:
    board, rng = NowBoard(clock), random.Random(1)
    kept: list[tuple[int, dict[str, Any]]] = []
    for step in range(2 * N_STEPS):
        clock.now += STEP_S * rng.choice((1, 1, 1, 2, 40) if step % 50 == 0 else (1,))
        rows = [
            flow(
                4 * step + i, client_address=f"c{rng.randrange(6)}", app=rng.choice(("a", "b", None)),
                service=rng.choice(("s", None)), category=rng.choice(("x", None)),
            )
            for i in range(rng.randrange(4))
        ]  # fmt: skip
        board.write(records(*rows))
        kept += [(int(clock.now) // STEP_S, row) for row in rows]
    now = int(clock.now) // STEP_S
    for wanted in (
        {},
        {"client": "c3"},
        {"app": ""},
        {"app": "a", "category": "x"},
        {"client": "none"},
    ):
        mine = [
            (at, row) for at, row in kept
            if at > now - N_STEPS
            and all((row[COLUMN.get(name, name)] or "") == value for name, value in wanted.items())
        ]  # fmt: skip
        found = board.view(wanted)
        assert found["flows"] == len(mine)
        assert found["bytes"] == sum(bytes_of(row) for _, row in mine)
        for name in ("client", "app", "category", "service"):
            sums: dict[str, list[int]] = {}
            for _, row in mine:
                if name != "service" or row["app"] is None:
                    one = sums.setdefault(row[COLUMN.get(name, name)] or "", [0, 0])
                    one[0] += bytes_of(row)
                    one[1] += 1
            assert {row["key"]: [row["bytes"], row["flows"]] for row in found["top"][name]} == sums
        for series in found["series"]:
            over, flows = [0] * N_STEPS, [0] * N_STEPS
            for at, row in mine:
                if (row["app"] or "") == series["key"]:
                    over[at - now + N_STEPS - 1] += bytes_of(row)
                    flows[at - now + N_STEPS - 1] += 1
            assert series["bytes"] == over
            assert series["flows"] == flows
        over_time = [*found["series"], {"bytes": found["rest"], "flows": found["rest_flows"]}]
        for name in ("bytes", "flows"):
            assert sum(sum(each[name]) for each in over_time) == found[name]


def test_a_quantile_is_the_bound_under_which_that_share_lies() -> None:
    histogram = Histogram((0.01, 0.1, 1.0))
    assert quantile(histogram, 0.5) is None
    histogram.add([0.005] * 60 + [0.05] * 39 + [7.0])
    assert quantile(histogram, 0.5) == 0.01
    assert quantile(histogram, 0.99) == 0.1
    assert quantile(histogram, 1.0) == 1.0
