"""Merging and deleting files of records, and sums by hour: no flow is lost, counted twice or counted late."""

import os
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from apptell.history import hourly_sums, upkeep
from apptell.history.questions import Question
from apptell.history.record_files import RecordFolder, is_own_name
from apptell.history.upkeep import Retention, compact, expire
from tests.history.rows import SECOND_NS, START_NS, flow, write_records

pytest.importorskip("duckdb")
from apptell.history.record_history import RecordHistory

LATER_NS = time.time_ns() + 3600 * SECOND_NS
HOUR_S = 3600


def small_files(folder: Path, n: int, own: bool = True) -> None:
    for i in range(n):
        write_records(
            folder / f"{'apptell' if own else 'mine'}-20261129T000000.{i:06d}Z.parquet",
            [flow(i, i), flow(i + 500, i + 0.5)],
        )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_small_files_become_one_and_every_flow_stays(tmp_path: Path) -> None:
    small_files(tmp_path, 20)
    before, _ = RecordHistory(tmp_path).flows(Question(), limit=100)
    assert compact(RecordFolder(tmp_path), LATER_NS) == 20
    assert names(tmp_path) == ["apptell-20261129T000000.000000Z-merged.parquet"]
    after, _ = RecordHistory(tmp_path).flows(Question(), limit=100)
    assert after.equals(before)
    assert compact(RecordFolder(tmp_path), LATER_NS) == 0


def test_few_fresh_and_foreign_files_are_left_alone(tmp_path: Path) -> None:
    small_files(tmp_path / "few", 5)
    small_files(tmp_path / "fresh", 20)
    small_files(tmp_path / "foreign", 20, own=False)
    assert compact(RecordFolder(tmp_path / "few"), LATER_NS) == 0
    assert compact(RecordFolder(tmp_path / "fresh"), time.time_ns()) == 0
    assert compact(RecordFolder(tmp_path / "foreign"), LATER_NS) == 0


def test_a_merge_that_was_cut_short_counts_no_flow_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_files(tmp_path, 20)
    with monkeypatch.context() as patch:
        patch.setattr(upkeep, "_delete_merged", lambda folder: None)  # as if killed before it
        compact(RecordFolder(tmp_path), LATER_NS)
    assert len(names(tmp_path)) == 21
    assert RecordHistory(tmp_path).overview(Question()).total.flows == 40
    compact(RecordFolder(tmp_path), LATER_NS)
    assert names(tmp_path) == ["apptell-20261129T000000.000000Z-merged.parquet"]
    assert RecordHistory(tmp_path).overview(Question()).total.flows == 40


def test_a_merged_file_cannot_hide_files_that_apptell_did_not_name(tmp_path: Path) -> None:
    write_records(tmp_path / "mine.parquet", [flow(1)])
    table = pq.read_table(
        write_records(tmp_path / "apptell-20261129T000000.000001Z.parquet", [flow(2)])
    )
    said = table.replace_schema_metadata(
        {
            "apptell.merged_from": '["mine.parquet", "../x", "apptell-20261129T000000.000001Z.parquet"]'
        }
    )
    pq.write_table(said, tmp_path / "apptell-20261129T000000.000001Z.parquet")
    assert RecordHistory(tmp_path).overview(Question()).total.flows == 2
    compact(RecordFolder(tmp_path), LATER_NS)
    assert names(tmp_path) == ["apptell-20261129T000000.000001Z.parquet", "mine.parquet"]


def test_files_of_before_the_kept_days_are_deleted_and_others_of_the_folder_stay(
    tmp_path: Path,
) -> None:
    for day in range(5):
        write_records(
            tmp_path / f"apptell-20261129T000000.{day:06}Z.parquet", [flow(day, day * 86_400)]
        )
    write_records(tmp_path / "mine.parquet", [flow(9, 0)])
    gone = expire(RecordFolder(tmp_path), Retention(days=2.5), START_NS + 4 * 86_400 * SECOND_NS)
    assert [file.path.name for file in gone] == [
        "apptell-20261129T000000.000000Z.parquet",
        "apptell-20261129T000000.000001Z.parquet",
    ]
    assert names(tmp_path) == [
        "apptell-20261129T000000.000002Z.parquet",
        "apptell-20261129T000000.000003Z.parquet",
        "apptell-20261129T000000.000004Z.parquet",
        "mine.parquet",
    ]


def test_the_oldest_files_are_deleted_until_the_others_fit(tmp_path: Path) -> None:
    for day in range(4):
        write_records(
            tmp_path / f"apptell-20261129T000000.{day:06}Z.parquet", [flow(day, day * 86_400)]
        )
    size = (tmp_path / "apptell-20261129T000000.000003Z.parquet").stat().st_size
    expire(RecordFolder(tmp_path), Retention(n_bytes=int(size * 2.5)), LATER_NS)
    assert names(tmp_path) == [
        "apptell-20261129T000000.000002Z.parquet",
        "apptell-20261129T000000.000003Z.parquet",
    ]
    expire(RecordFolder(tmp_path), Retention(), LATER_NS)
    assert len(names(tmp_path)) == 2


@pytest.fixture
def hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hourly_sums, "LEAST_RECORDS", 10)
    rows = [
        flow(i, i * 1700, app=f"app-{i % 4}" if i % 5 else None, client_address=f"10.0.{i % 7}.1")
        for i in range(400)
    ]
    write_records(tmp_path / "apptell-20261129T000000.000001Z.parquet", rows[:250])
    write_records(tmp_path / "apptell-20261129T000000.000002Z.parquet", rows[250:395])
    write_records(
        tmp_path / "apptell-20261129T000000.000003Z.parquet", rows[395:]
    )  # too small for sums
    return tmp_path


@pytest.mark.parametrize("by", hourly_sums.HOURLY)
def test_kept_sums_give_exactly_what_the_records_give(hours: Path, by: str) -> None:
    history = RecordHistory(hours)
    odd = START_NS + 33_333 * SECOND_NS + 7
    questions = [
        Question(),
        Question(odd, odd + 450_000 * SECOND_NS),
        Question(odd),
        Question(None, odd),
        Question(
            filters={by: [RecordHistory(hours).overview(Question(), by).groups[0].key or "", ""]}
        ),
        Question(odd, filters={by: ["none of them"]}),
    ]
    before = [history.overview(question, by, n_steps=120) for question in questions]
    assert history.make_sums() == 2
    assert any(
        hourly_sums.can_use_sums(q, by, found.steps)
        for q, found in zip(questions, before, strict=True)
    )
    assert [history.overview(question, by, n_steps=120) for question in questions] == before


def test_sums_are_really_used_and_only_those_of_the_same_file(hours: Path) -> None:
    history = RecordHistory(hours)
    history.make_sums()
    pieces: list[str] = []
    run = history._run
    history._run = lambda q, ask: (pieces.append(ask(history._files(q))[0]), run(q, ask))[1]  # type: ignore[method-assign]
    history.overview(Question())
    assert "grouping = ?" in pieces[0]
    history.overview(Question(text="signal"))
    assert "grouping = ?" not in pieces[1]
    write_records(
        hours / "apptell-20261129T000000.000001Z.parquet", [flow(i, i * 60) for i in range(20)]
    )
    os.utime(hours / "apptell-20261129T000000.000001Z.parquet", ns=(LATER_NS, LATER_NS))
    assert history.overview(Question()).total.flows == 20 + 150
    assert history.make_sums() == 1
    assert history.overview(Question()).total.flows == 20 + 150
    assert len(list((hours / hourly_sums.SUMS_FOLDER).iterdir())) == 2, "old sums are deleted"


def test_a_range_within_an_hour_is_answered_from_records(hours: Path) -> None:
    history = RecordHistory(hours)
    history.make_sums()
    inner, edges = hourly_sums.split_hours(Question(START_NS, START_NS + 60 * SECOND_NS))
    assert inner.from_ns == inner.to_ns
    assert len(edges) == 1


@pytest.mark.parametrize(
    "name",
    [
        "apptell-flows.parquet",
        "apptell-2025.parquet",
        "apptell-20261129T000000.000001Z-mine.parquet",
    ],
)
def test_files_that_only_look_like_ours_are_not_ours(name):
    assert not is_own_name(name)
    assert is_own_name("apptell-20261129T000000.000001Z-x-merged.parquet")


def test_only_sums_are_deleted_and_nothing_behind_a_link(tmp_path: Path) -> None:
    sums = hourly_sums.SumsFolder(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("mine.parquet", "a.1f-2e.parquet"):
        (elsewhere / name).write_bytes(b"x")
    sums.path.symlink_to(elsewhere)
    assert sums.prune([]) == 0
    assert len(names(elsewhere)) == 2
    sums.path.unlink()
    elsewhere.rename(sums.path)
    assert sums.prune([]) == 1
    assert names(sums.path) == ["mine.parquet"]
