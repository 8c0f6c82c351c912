"""Questions to a history give the sums of its records, computed here again in plain Python."""

import threading
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from apptell.errors import OutputError, UsageError
from apptell.history.questions import GROUPINGS, SORTS, SQL_TYPES, Question
from apptell.records.schema import LIVE_RECORD, VERDICT_RECORD
from tests.history.rows import SECOND_NS, START_NS, flow, mixed_records, verdict_of, write_records

pytest.importorskip("duckdb")
from apptell.history.record_history import RecordHistory

COLUMN = {"app": "app", "category": "category", "client": "client_address", "outcome": "outcome"}


@pytest.mark.parametrize("by", GROUPINGS)
def test_an_overview_adds_up_to_all_flows_for_every_grouping(tmp_path: Path, by: str) -> None:
    ends = mixed_records(tmp_path)
    found = RecordHistory(tmp_path).overview(Question(), by, n_series=2)
    n_bytes = sum(end["bytes_to_server"] + end["bytes_to_client"] for end in ends)
    assert found.total.flows == len(ends) == sum(group.flows for group in found.groups)
    assert found.total.bytes == n_bytes == sum(map(sum, found.bytes))
    assert sum(map(sum, found.flows)) == len(ends)
    assert found.n_groups == len(found.groups)
    assert [g.bytes for g in found.groups] == sorted((g.bytes for g in found.groups), reverse=True)


@pytest.mark.parametrize("by", COLUMN)
def test_groups_are_those_of_the_records(tmp_path: Path, by: str) -> None:
    ends = mixed_records(tmp_path)
    found = RecordHistory(tmp_path).overview(Question(), by)
    assert {g.key: g.flows for g in found.groups} == Counter(end[COLUMN[by]] for end in ends)


def test_an_app_has_its_name_and_the_verdict_records_are_not_counted(tmp_path: Path) -> None:
    end = flow(1)
    write_records(tmp_path / "a.parquet", [verdict_of(end), end])
    (group,) = RecordHistory(tmp_path).overview(Question()).groups
    assert (group.key, group.label, group.flows, group.named) == ("signal", "Signal", 1, 1)


def test_background_is_no_named_app(tmp_path: Path) -> None:
    background = flow(2, app="other", app_name=None, category=None, evidence="model")
    write_records(tmp_path / "a.parquet", [flow(1), background, flow(3, app=None, app_name=None)])
    total = RecordHistory(tmp_path).overview(Question()).total
    assert (total.flows, total.named) == (3, 1)


def test_records_of_identify_without_events_are_whole_flows(tmp_path: Path) -> None:
    row = {name: value for name, value in flow(1).items() if name in VERDICT_RECORD.names}
    write_records(tmp_path / "identify.parquet", [row], VERDICT_RECORD)
    write_records(tmp_path / "live.parquet", [flow(2)])
    history = RecordHistory(tmp_path)
    assert history.overview(Question()).total.flows == 2
    assert history.flows(Question())[0].schema.equals(LIVE_RECORD)


def test_flows_before_from_and_from_to_on_are_left_out(tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", [flow(i, i) for i in range(10)])
    question = Question(START_NS + 3 * SECOND_NS, START_NS + 7 * SECOND_NS)
    batch, total = RecordHistory(tmp_path).flows(question, sort="time", descending=False)
    assert batch.column("client_port").to_pylist() == [40_003, 40_004, 40_005, 40_006]
    assert total == 4
    found = RecordHistory(tmp_path).overview(question)
    assert (found.steps.start_ns, found.steps.step_ns) == (START_NS + 3 * SECOND_NS, SECOND_NS)
    assert found.flows[0] == [1, 1, 1, 1]


def test_filters_within_one_name_are_alternatives_and_an_empty_one_means_none(
    tmp_path: Path,
) -> None:
    mixed_records(tmp_path)
    history = RecordHistory(tmp_path)

    def n(**filters: list[str]) -> int:
        return history.flows(Question(filters=filters))[1]

    assert n(app=["zoom"]) == 1
    assert n(app=["zoom", "signal"]) == 7
    assert n(app=[""]) == 2
    assert n(app=["", "zoom"]) == 3
    assert n(app=["signal"], client=["10.0.0.1"]) == 2
    assert n(server=["203.0.113.9"]) == 2, "a flow without a name is under its server's address"


@pytest.mark.parametrize(
    "text", ["' OR 1=1 --", '"', "%", "_", "\\", "'; DROP TABLE records; --", "\0"]
)
def test_text_of_users_is_never_sql(tmp_path: Path, text: str) -> None:
    mixed_records(tmp_path)
    write_records(tmp_path / "odd.parquet", [flow(99, server_name=f"x{text}y", app=f"a{text}b")])
    history = RecordHistory(tmp_path)
    assert history.flows(Question(text=text))[1] == 1
    assert history.flows(Question(filters={"app": [f"a{text}b"]}))[1] == 1
    assert history.overview(Question(text=text), "server").total.flows == 1
    assert history.flow(text).num_rows == 0


def test_a_search_ignores_case_and_finds_names_and_addresses(tmp_path: Path) -> None:
    mixed_records(tmp_path)
    history = RecordHistory(tmp_path)
    assert history.flows(Question(text="SIGNAL"))[1] == 6
    assert history.flows(Question(text="10.0.0.9"))[1] == 1
    assert history.flows(Question(text="google fonts"))[1] == 1


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("descending", [True, False])
def test_every_order_pages_through_all_flows_once(
    tmp_path: Path, sort: str, descending: bool
) -> None:
    ends = mixed_records(tmp_path)
    history = RecordHistory(tmp_path)
    pages = [
        history.flows(Question(), sort=sort, descending=descending, limit=4, offset=at)[0]
        for at in (0, 4, 8)
    ]
    ports = [port for page in pages for port in page.column("client_port").to_pylist()]
    assert sorted(ports) == sorted(end["client_port"] for end in ends)
    if sort == "bytes":
        sizes = [
            a + b
            for page in pages
            for a, b in zip(
                *(page.column(f"bytes_to_{c}").to_pylist() for c in ("server", "client")),
                strict=True,
            )
        ]
        assert sizes == sorted(sizes, reverse=descending)


@pytest.mark.parametrize("descending", [True, False])
def test_pages_by_time_over_many_overlapping_files_are_those_of_all_files(
    tmp_path: Path, descending: bool
) -> None:
    for i in range(20):
        rows = [
            flow(i * 10 + k, i * 7 + k * 3, app="rare" if i == 11 else "signal") for k in range(10)
        ]
        write_records(tmp_path / f"a{i}.parquet", rows)
    history = RecordHistory(tmp_path)
    times = sorted((i * 7 + k * 3 for i in range(20) for k in range(10)), reverse=descending)

    def page(offset: int, **filters: list[str]) -> list[float]:
        question = Question(filters=filters)
        batch, _ = history.flows(question, descending=descending, limit=20, offset=offset)
        return [
            (t - START_NS) / SECOND_NS for t in batch.column("time").cast(pa.int64()).to_pylist()
        ]

    assert [time for at in range(0, 200, 20) for time in page(at)] == times
    assert len(page(0, app=["rare"])) == 10


def test_a_flow_has_its_verdict_and_its_end_and_a_large_connection_id(tmp_path: Path) -> None:
    mixed_records(tmp_path)
    batch = RecordHistory(tmp_path).flow("1:flow6+/=", (1 << 63) + 6, 0)
    assert batch.column("event").to_pylist() == ["verdict", "end"]
    assert RecordHistory(tmp_path).flow("1:flow6+/=", 5, 0).num_rows == 0


def test_damaged_foreign_and_linked_files_are_named_and_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    mixed_records(folder)
    (folder / "cut.parquet").write_bytes((folder / "apptell-1.parquet").read_bytes()[:-9])
    (folder / "text.parquet").write_text("hello")
    write_records(folder / "other.parquet", [{"a": 1}], pa.schema({"a": pa.int64()}))
    wrong = LIVE_RECORD.set(LIVE_RECORD.names.index("app"), pa.field("app", pa.int64()))
    write_records(folder / "wrong.parquet", [flow(1, app=3)], wrong)
    (folder / "odd*.parquet").write_bytes((folder / "apptell-1.parquet").read_bytes())
    (tmp_path / "outside.parquet").write_bytes((folder / "apptell-1.parquet").read_bytes())
    (folder / "link.parquet").symlink_to(tmp_path / "outside.parquet")
    (folder / ".apptell-2.parquet.tmp").write_text("being written")
    history = RecordHistory(folder)
    found, unreadable = history.status()
    assert (found["files"], found["records"]) == (2, 18)
    assert {each.name for each in unreadable} == {
        "cut.parquet", "text.parquet", "other.parquet", "wrong.parquet", "odd*.parquet", "link.parquet",
    }  # fmt: skip
    assert history.overview(Question()).total.flows == 9


def test_files_may_come_and_go(tmp_path: Path) -> None:
    history = RecordHistory(tmp_path)
    assert history.overview(Question()).total.flows == 0
    assert history.flows(Question())[0].num_rows == 0
    first = write_records(tmp_path / "a.parquet", [flow(1)])
    assert history.flows(Question())[1] == 1
    write_records(tmp_path / "b.parquet", [flow(2), flow(3)])
    first.unlink()
    assert history.flows(Question())[1] == 2


def test_the_database_can_open_nothing_outside_the_folder(tmp_path: Path) -> None:
    import duckdb

    mixed_records(tmp_path / "records")
    (tmp_path / "secret.csv").write_text("a\n1\n")
    cursor = RecordHistory(tmp_path / "records")._connection.cursor()
    for sql in (
        f"SELECT * FROM read_csv('{tmp_path}/secret.csv')",
        f"SELECT * FROM read_text('{tmp_path}/records/../secret.csv')",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ):
        with pytest.raises(duckdb.Error):
            cursor.execute(sql)


def test_a_question_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    mixed_records(tmp_path)
    history = RecordHistory(tmp_path, limit_s=0.2)
    with pytest.raises(OutputError, match=r"longer than 0\.2 s"), history._limited() as cursor:
        cursor.execute(
            "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
        ).fetchall()
    assert history.flows(Question())[1] == 9


def test_questions_of_several_threads_do_not_mix(tmp_path: Path) -> None:
    mixed_records(tmp_path)
    history = RecordHistory(tmp_path)
    found: dict[str, set[int]] = {"signal": set(), "zoom": set()}

    def ask(app: str) -> None:
        for _ in range(10):
            found[app].add(history.flows(Question(filters={"app": [app]}))[1])

    threads = [threading.Thread(target=ask, args=(app,)) for app in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"signal": {6}, "zoom": {1}}


def test_wrong_questions_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no filter 'port'"):
        Question(filters={"port": ["1"]})
    with pytest.raises(UsageError, match="over 200 characters"):
        Question(filters={"app": ["x" * 201]})
    with pytest.raises(UsageError, match="no grouping 'x'"):
        RecordHistory(tmp_path).overview(Question(), "x")
    with pytest.raises(UsageError, match="no order 'x'"):
        RecordHistory(tmp_path).flows(Question(), sort="x")
    with pytest.raises(OutputError, match="no such folder"):
        RecordHistory(tmp_path / "none")
    (tmp_path / "a[b]").mkdir()
    with pytest.raises(UsageError, match=r"cannot have \*, \? or \["):
        RecordHistory(tmp_path / "a[b]")


def test_every_column_of_a_record_has_a_type_in_sql() -> None:
    assert {str(column.type) for column in LIVE_RECORD} <= set(SQL_TYPES)
