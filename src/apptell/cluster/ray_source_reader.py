"""Reads the sources of a dataset on Ray: labelled captures in, their flows out in the captures' order.

A source is one task, whose flows come back in chunks while it is read. Ray repeats a task whose worker or node
was lost. A capture always gives the same chunks, so chunks that had arrived before stay valid.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from apptell.cluster.ray_run import LOCAL, RETRIES, connected
from apptell.dataset.reading import Reading
from apptell.errors import ApptellError, DatasetError
from apptell.flows.schema import SCHEMA, FlowBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from apptell.dataset.reading import LabelledSource

_AHEAD: Final = 2
"""Sources for each core that are being read or wait to be taken."""
_CHUNK_BYTES: Final = 16 << 20
"""Size of a chunk of flows at least; the last one of a source may be smaller."""


@dataclass(slots=True)
class _ReadOnRay:
    """What a task reads of a source; has the interface of a ``Reading``."""

    name: str
    """Of the source, for messages."""
    answers: Iterator[Any]
    """What the task yields, already fetched from Ray."""
    digest: str = ""
    dropped: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Any] = field(default_factory=dict)
    damage: str | None = None

    def batches(self) -> Iterator[FlowBatch]:
        """The flows in the order they were read."""
        for answer in self.answers:
            if isinstance(answer, bytes):
                with pa.ipc.open_stream(answer) as stream:
                    for batch in stream:
                        yield FlowBatch(batch.cast(SCHEMA))
            else:
                self.dropped, self.facts, self.damage = answer


@dataclass(frozen=True, slots=True)
class RaySourceReader:
    """Reads sources on the cores of a Ray cluster, one core to a source.

    All machines must reach the captures, their label files and catalogue files under the same paths. The
    dataset's folder is only used by the machine that builds.
    """

    address: str = LOCAL
    """``local``, ``auto`` for the cluster that this machine belongs to, or ``HOST:PORT`` of one."""

    def __call__(
        self,
        sources: Iterable[LabelledSource],
        change: Callable[[FlowBatch], FlowBatch] | None,
        known: frozenset[str],
    ) -> Generator[tuple[LabelledSource, _ReadOnRay]]:
        """Reads sources; yields them in their order.

        Args:
            sources: what to read; picklable.
            change: as for ``build``; picklable.
            known: digests of the dataset's content, which is not read again.

        Raises:
            UsageError: there is no cluster at the address.
            MissingError: Ray is not installed.
            DatasetError: a source's worker was lost too often, or cannot read the source.
            ApptellError: what reading raised, for the first source that raised it.
        """
        with connected(self.address, "reading on a cluster") as ray:
            task = ray.remote(
                num_cpus=1, max_retries=RETRIES, retry_exceptions=False, num_returns="streaming"
            )(_read)
            shared = ray.put((change, known))
            folder = Path.cwd()
            waiting = iter(sources)
            order: deque[tuple[LabelledSource, Any]] = deque()
            try:
                while True:
                    cores = max(int(ray.cluster_resources().get("CPU", 1)), 1)
                    while len(order) < _AHEAD * cores:
                        source = next(waiting, None)
                        if source is None:
                            break
                        order.append((source, task.remote(source, shared, folder)))
                    if not order:
                        return
                    source, answers = order[0]
                    found = _ReadOnRay(source.name, _fetched(ray, source.name, answers))
                    found.digest = next(found.answers)
                    yield source, found
                    order.popleft()
            finally:
                for _, answers in order:
                    ray.cancel(answers, force=True)


def _fetched(ray: Any, name: str, answers: Iterator[Any]) -> Iterator[Any]:
    """What a task yields.

    Raises:
        DatasetError: its worker was lost too often.
        ApptellError: what the task gave as its error.
    """
    try:
        for reference in answers:
            answer = ray.get(reference)
            if isinstance(answer, ApptellError):
                raise answer
            yield answer
    except ray.exceptions.RayTaskError:
        raise  # a defect: its traceback says more than a line
    except ray.exceptions.RayError as lost:
        first = str(lost).strip().partition("\n")[0]
        raise DatasetError(f"{name}: its worker was lost {RETRIES + 1} times: {first}") from None


def _read(
    source: LabelledSource,
    shared: tuple[Callable[[FlowBatch], FlowBatch] | None, frozenset[str]],
    folder: Path,
) -> Iterator[Any]:
    """The task: yields the digest, the flows as Arrow streams, and what else is known; or what went wrong.

    Args:
        source: what to read.
        shared: a change of each batch, and digests that are not read again.
        folder: where relative paths begin.
    """
    change, known = shared
    try:
        if not all(file.is_absolute() for file in source.files):
            os.chdir(folder)
        reading = Reading(source, change)
        yield reading.digest
        if reading.digest not in known:
            yield from _chunks(reading)
        yield reading.dropped, dict(reading.facts), reading.damage
    except ApptellError as error:
        yield error
    except OSError as error:
        yield DatasetError(
            f"{source.name}: a worker cannot read it: {error.strerror}; all machines must reach the captures "
            "under the same paths"
        )


def _chunks(reading: Reading) -> Iterator[bytes]:
    """The flows, as Arrow streams of whole batches."""
    waiting: list[pa.RecordBatch] = []
    for batch in reading.batches():
        waiting.append(batch.to_arrow())
        if sum(each.nbytes for each in waiting) >= _CHUNK_BYTES:
            yield _stream(waiting)
            waiting = []
    if waiting:
        yield _stream(waiting)


def _stream(batches: list[pa.RecordBatch]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as stream:
        for batch in batches:
            stream.write_batch(batch)
    found: bytes = sink.getvalue().to_pybytes()
    return found
