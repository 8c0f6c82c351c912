"""Answers questions about the records of a folder: sums over time, tables of flows, and single flows.

DuckDB runs in this process with no access to any file outside the folder, no extensions, and bounds on its
memory, its threads and the time of a question. A flow's ``end`` record has its totals, so sums and tables are
of those; the ``verdict`` record of the same flow says what was known when it was decided.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from apptell.errors import OutputError, needs_extra
from apptell.history.flow_sums import Overview, Steps, overview_of
from apptell.history.hourly_sums import SumsFolder, can_use_sums, split_hours, sums_sql
from apptell.history.pieces import Pieces
from apptell.history.questions import ENDED, Question, grouping, ordering, relation
from apptell.history.record_files import RecordFolder, totals
from apptell.records.schema import LIVE_RECORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from apptell.history.record_files import RecordFile, Unreadable

LIMIT_S: Final = 60.0
"""Seconds that a question may take."""
MEMORY: Final = "2GB"
_TRIES: Final = 3
_FIRST_FILES: Final = 4
"""Files that are read first for a table ordered by time."""
_FOREVER_NS: Final = 1 << 62
_Asked = tuple[str, list[Any]]
"""SQL and its parameters."""


class RecordHistory:
    """The records of a folder.

    Args:
        folder: as ``live --out parquet:FOLDER`` writes it; its files may come and go.
        limit_s: seconds that a question may take.
        memory: that DuckDB may use, such as ``2GB``.
        threads: of DuckDB.

    Raises:
        MissingError: DuckDB is not installed.
        UsageError: the folder's path has characters that DuckDB would expand.
        OutputError: there is no such folder.
    """

    def __init__(
        self,
        folder: Path,
        limit_s: float = LIMIT_S,
        memory: str = MEMORY,
        threads: int | None = None,
    ) -> None:
        with needs_extra("serve", "a history of records"):
            import duckdb
        self.folder = RecordFolder(folder)
        self.sums = SumsFolder(self.folder.path)
        self._limit_s = limit_s
        self._connection = duckdb.connect(":memory:")
        self._fault = duckdb.Error
        settings: dict[str, Any] = {
            "memory_limit": memory,
            "allowed_directories": [f"{self.folder.path}/"],
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "temp_directory": "",
            "parquet_metadata_cache": True,
        }
        if threads is not None:
            settings["threads"] = threads
        for name, value in settings.items():
            self._connection.execute(f"SET {name} = ?", [value])
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")

    def close(self) -> None:
        """Ends DuckDB."""
        self._connection.close()

    def status(self) -> tuple[dict[str, int | None], list[Unreadable]]:
        """Files, records, bytes, and first and last start (see ``totals``); and the files that are left out."""
        files, unreadable = self.folder.scan()
        return totals(files), unreadable

    def overview(
        self,
        question: Question,
        by: str = "app",
        *,
        n_series: int = 8,
        n_groups: int = 100,
        n_steps: int = 120,
    ) -> Overview:
        """Sums flows over time and by group.

        Args:
            question: which flows.
            by: a grouping.
            n_series: groups that get a series of their own over time.
            n_groups: most groups that are listed.
            n_steps: about how many steps of time there are.

        Raises:
            UsageError: there is no such grouping.
            OutputError: the question takes too long, or the files cannot be read.
        """
        key = grouping(by)
        steps = Steps.over(*_span(question, self._files(question)), n_steps)

        def ask(files: Sequence[RecordFile]) -> _Asked:
            pieces = Pieces(key, steps, by)
            summed = self.sums.of(files) if can_use_sums(question, by, steps) else {}
            if summed:
                inner, edges = split_hours(question)
                pieces.add_sums(list(summed.values()), inner)
                for edge in edges:
                    near = [file for file in summed if file.overlaps(edge.from_ns, edge.to_ns)]
                    pieces.add_records(near, edge)
            pieces.add_records([file for file in files if file not in summed], question)
            return pieces.whole(n_series, n_groups)

        return overview_of(self._run(question, ask), steps, n_series)

    def flows(
        self,
        question: Question,
        *,
        sort: str = "time",
        descending: bool = True,
        limit: int = 50,
        offset: int = 0,
    ) -> tuple[pa.RecordBatch, int]:
        """A page of a table of flows, and the number of flows that the question means.

        Raises:
            UsageError: there is no such order.
            OutputError: the question takes too long, or the files cannot be read.
        """
        order = ordering(sort, descending=descending)
        number = self._select(question, "count(*) AS n").column("n")[0].as_py()
        end = f"ORDER BY {order} LIMIT {int(limit)} OFFSET {int(offset)}"
        files = self._files(question)
        n_files = _FIRST_FILES if sort == "time" else len(files)
        while n_files < len(
            files
        ):  # the flows of a page are in a few files, if they are ordered by time
            some, rest = _by_time(files, n_files, descending=descending)
            found = _records(self._select(question, _COLUMNS, end, some))
            if found.num_rows == limit and _is_settled(found, rest, descending=descending):
                return found, int(number)
            n_files *= 4
        return _records(self._select(question, _COLUMNS, end)), int(number)

    def batches(self, question: Question, limit: int) -> Iterator[pa.RecordBatch]:
        """The records of flows in the order of their start, for a download.

        Args:
            question: which flows.
            limit: most records.

        Raises:
            OutputError: the question takes too long, or the files cannot be read.
        """
        table = self._select(question, _COLUMNS, f"ORDER BY time LIMIT {int(limit)}")
        for batch in table.to_batches(65_536):
            yield _records(pa.Table.from_batches([batch]))

    def flow(
        self, community_id: str, connection_id: int | None = None, part: int | None = None
    ) -> pa.RecordBatch:
        """The records of one flow: its verdict and its end.

        Args:
            community_id: of the flow; connections that reuse its ports have the same.
            connection_id: picks one connection.
            part: picks one part of it.

        Raises:
            OutputError: the question takes too long, or the files cannot be read.
        """
        wanted = {"community_id": community_id, "connection_id": connection_id, "part": part}
        terms = {f"{name} = ?": value for name, value in wanted.items() if value is not None}
        where = f"{' AND '.join(terms)} ORDER BY time, end_time, event DESC NULLS FIRST LIMIT 100"
        return _records(
            self._run(Question(), lambda files: _select(files, _COLUMNS, where, terms.values()))
        )

    def make_sums(self) -> int:
        """Makes the missing sums of large files; returns their number.

        Raises:
            OutputError: the folder cannot be written, or a file cannot be read.
        """
        missing = self.sums.missing(self.folder.scan()[0])
        for file in missing:
            self.sums.write(file, self._sums_of(file))
        self.sums.prune(self.folder.scan()[0])
        return len(missing)

    def _sums_of(self, file: RecordFile) -> pa.Table:
        records = f"SELECT * FROM ({relation(file.columns)}) WHERE {ENDED}"
        asked = (f"WITH records AS ({records}) {sums_sql('records')}", [[str(file.path)]])
        return self._run(Question(), lambda _: asked)

    def _files(self, question: Question) -> list[RecordFile]:
        files, _ = self.folder.scan()
        return [file for file in files if file.overlaps(question.from_ns, question.to_ns)]

    def _select(
        self,
        question: Question,
        columns: str,
        end: str = "",
        only: Sequence[RecordFile] | None = None,
    ) -> pa.Table:
        """Columns of the ended flows that a question means, of all files or only of some."""
        where, values = question.where()
        where = f"{ENDED} AND {where} {end}"
        kept = None if only is None else {file.path for file in only}

        def ask(files: Sequence[RecordFile]) -> _Asked:
            chosen = files if kept is None else [file for file in files if file.path in kept]
            return _select(chosen, columns, where, values)

        return self._run(question, ask)

    def _run(self, question: Question, ask: Callable[[Sequence[RecordFile]], _Asked]) -> pa.Table:
        """Asks the files of a question's time; again if one was replaced meanwhile."""
        files = self._files(question)
        for attempt in range(_TRIES):
            sql, values = ask(files)
            try:
                with self._limited() as cursor:
                    return cursor.sql(sql, params=values).to_arrow_table()
            except self._fault as error:
                fresh = self._files(question)
                if fresh == files or attempt == _TRIES - 1:
                    reason = str(error).splitlines()[0]
                    raise OutputError(f"{self.folder.path}: {reason}") from error
                files = fresh
        raise AssertionError

    @contextmanager
    def _limited(self) -> Iterator[DuckDBPyConnection]:
        """A cursor whose question is interrupted after the limit.

        Raises:
            OutputError: the question took too long.
        """
        cursor = self._connection.cursor()
        is_late = threading.Event()

        def stop() -> None:
            is_late.set()
            cursor.interrupt()

        timer = threading.Timer(self._limit_s, stop)
        timer.daemon = True
        timer.start()
        try:
            yield cursor
        except self._fault as error:
            if is_late.is_set():
                raise OutputError(
                    f"the question took longer than {self._limit_s:g} s; choose a shorter time"
                ) from error
            raise
        finally:
            timer.cancel()
            cursor.close()


_COLUMNS: Final = ", ".join(f'"{name}"' for name in LIVE_RECORD.names)


def _by_time(
    files: Sequence[RecordFile], n: int, *, descending: bool
) -> tuple[Sequence[RecordFile], Sequence[RecordFile]]:
    """The n files with the latest flows, or the earliest, and the others."""
    if descending:
        ordered = sorted(files, key=lambda file: _last(file.last_ns), reverse=True)
    else:
        ordered = sorted(files, key=lambda file: file.first_ns or 0)
    return ordered[:n], ordered[n:]


def _last(time_ns: int | None) -> int:
    return _FOREVER_NS if time_ns is None else time_ns


def _is_settled(found: pa.RecordBatch, rest: Sequence[RecordFile], *, descending: bool) -> bool:
    """Whether no flow of the other files belongs before the last one that was found."""
    at_ns = found.column("time").cast(pa.int64())[-1].as_py()
    if descending:
        return all(_last(file.last_ns) < at_ns for file in rest)
    return all((file.first_ns or 0) > at_ns for file in rest)


def _select(files: Sequence[RecordFile], columns: str, where: str, values: Iterable[Any]) -> _Asked:
    if not files:
        nothing = ", ".join(f'NULL AS "{name}"' for name in LIVE_RECORD.names)
        return f"SELECT {columns} FROM (SELECT {nothing} WHERE false)", []
    there = frozenset[str]().union(*(file.columns for file in files))
    sql = f"SELECT {columns} FROM ({relation(there)}) WHERE {where}"
    return sql, [[str(file.path) for file in files], *values]


def _span(question: Question, files: Sequence[RecordFile]) -> tuple[int, int]:
    """Begin and end of a question's time, ns; that of the records where it has no limit."""
    span = totals(files)
    first, last = span["first_ns"] or 0, (span["last_ns"] or 0) + 1
    start = first if question.from_ns is None else question.from_ns
    end = last if question.to_ns is None else question.to_ns
    return start, max(end, start + 1)


def _records(table: pa.Table) -> pa.RecordBatch:
    """The records of a table, with the columns of a live record."""
    batches = table.cast(LIVE_RECORD).combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], LIVE_RECORD)
