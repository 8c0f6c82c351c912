"""Reads labelled sources in several processes, and returns their flows in the sources' order.

A process reads a whole source, labels it and writes its flows beside the dataset as an Arrow stream. The
folder's record lists that file, so that the next writer deletes it if it was not used. A dataset is the same,
however many processes made it.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from apptell.dataset.reading import Reading
from apptell.errors import ApptellError, DatasetError
from apptell.files import new_file
from apptell.flows.schema import SCHEMA, FlowBatch

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Generator, Iterable, Iterator, MutableMapping
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from apptell.dataset.dataset_folder import DatasetFolder
    from apptell.dataset.reading import LabelledSource

_AHEAD: Final = 2
"""Sources for each process that are being read or wait to be taken."""


@dataclass(slots=True)
class Spooled:
    """The result of a process for one source; has the interface of a finished ``Reading``."""

    digest: str
    file: Path | None
    """Its flows; None when the dataset had this content already."""
    dropped: Counter[str]
    facts: MutableMapping[str, Any]
    damage: str | None

    def batches(self) -> Iterator[FlowBatch]:
        """The flows in the order they were read; their file is deleted afterwards."""
        if self.file is None:
            return
        with self.file.open("rb") as raw, pa.ipc.open_stream(raw) as stream:
            for batch in stream:
                yield FlowBatch(batch.cast(SCHEMA))
        self.file.unlink()


def spool(
    sources: Iterable[LabelledSource],
    folder: DatasetFolder,
    jobs: int,
    change: Callable[[FlowBatch], FlowBatch] | None,
    known: frozenset[str],
) -> Generator[tuple[LabelledSource, Spooled]]:
    """Reads sources in ``jobs`` processes; yields the results in the order of the sources.

    Args:
        sources: what to read; picklable.
        folder: the dataset's, locked, for files that are on their way.
        jobs: processes.
        change: as for ``build``; picklable.
        known: digests of the dataset's content, which is not read again.

    Raises:
        ApptellError: what reading raised, for the first source that raised it.
        DatasetError: a process ended unexpectedly.
    """
    pool = _Pool(jobs, folder, change, known)
    numbered = enumerate(sources)
    order: deque[tuple[int, LabelledSource]] = deque()
    try:
        while True:
            while len(order) < _AHEAD * jobs and pool.has_idle:
                item = next(numbered, None)
                if item is None:
                    break
                pool.give(item)
                order.append(item)
            if not order:
                return
            number, source = order[0]
            if number not in pool.done:
                pool.wait(source.name)
                continue
            order.popleft()
            found = pool.done.pop(number)
            if isinstance(found, ApptellError):
                raise found
            yield source, found
    finally:
        pool.close()


class _Pool:
    """A pool of processes, each with a pipe; a process ends when its pipe is closed."""

    def __init__(self, jobs: int, folder: DatasetFolder, *settings: Any) -> None:
        self._jobs = jobs
        self._folder = folder
        self._settings = settings
        self._workers: list[tuple[BaseProcess, Connection]] = []
        self._files: list[Path] = []
        """Files that the processes may have written."""
        self._busy: dict[Connection, int] = {}
        self.done: dict[int, Spooled | ApptellError] = {}
        """Results so far, by number."""

    @property
    def has_idle(self) -> bool:
        """Whether a process has nothing to do, or another one may be started."""
        return len(self._busy) < self._jobs

    def give(self, item: tuple[int, LabelledSource]) -> None:
        """Passes a source to an idle process."""
        idle = next((pipe for _, pipe in self._workers if pipe not in self._busy), None)
        if idle is None:
            context = multiprocessing.get_context("spawn")
            idle, theirs = context.Pipe()
            arguments = (theirs, *self._settings)
            worker = context.Process(target=_work, args=arguments, daemon=True)
            worker.start()
            theirs.close()
            self._workers.append((worker, idle))
        file = self._folder.scratch("spool")
        self._files.append(file)
        idle.send((*item, file))
        self._busy[idle] = item[0]

    def wait(self, name: str) -> None:
        """Waits for the next result."""
        for ready in wait(list(self._busy)):
            pipe: Any = ready
            try:
                answer = pipe.recv()
            except EOFError as error:
                raise DatasetError(
                    f"{name}: the process that read it ended unexpectedly"
                ) from error
            self.done[self._busy.pop(pipe)] = answer

    def close(self) -> None:
        """Ends all processes and deletes results that were not taken."""
        for worker, pipe in self._workers:
            pipe.close()
            if pipe in self._busy:
                worker.terminate()
            worker.join()
        for file in self._files:
            self._folder.delete(file.name)


def _work(
    pipe: Connection,
    change: Callable[[FlowBatch], FlowBatch] | None,
    known: frozenset[str],
) -> None:
    """Runs in one process: reads sources until the pipe is closed."""
    answer: Spooled | ApptellError
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            _, source, file = pipe.recv()
            try:
                answer = _one(Reading(source, change), file, known)
            except ApptellError as error:
                answer = error
            pipe.send(answer)


def _one(reading: Reading, file: Path, known: frozenset[str]) -> Spooled:
    is_known = reading.digest in known
    if not is_known:
        with new_file(file) as sink, pa.ipc.new_stream(sink, SCHEMA) as stream:
            for batch in reading.batches():
                stream.write_batch(batch.to_arrow())
    return Spooled(
        reading.digest, None if is_known else file, reading.dropped, reading.facts, reading.damage
    )
