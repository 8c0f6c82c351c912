"""Reads the flows of a capture with several processes; each takes a share of the 5-tuples.

Every process reads all packets and keeps the flows of its own tuples. One table therefore makes each flow
from all its packets in order, and the flows are the same as those of a single process.
"""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from apptell.capture import open_capture
from apptell.errors import ApptellError, CaptureError, UsageError
from apptell.flows.flow_reader import FlowReader, FlowStats
from apptell.flows.schema import SCHEMA, FlowBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from apptell.flows.flow_reader import Observer
    from apptell.flows.options import FlowOptions
    from apptell.packets import HeaderBatch


_FLOWS, _ANSWERS, _OPEN, _OVER = "flows", "answers", "open", "over"
"""What a process sends: finished flows; DNS answers; open flows; its counters and what went wrong."""


class _Sender:
    """The process' end of its pipe: it sends batches as Arrow IPC, each behind a word and a number."""

    def __init__(self, out: Connection) -> None:
        self._out = out
        self._n_answers = 0

    def send(self, kind: str, batch: pa.RecordBatch | None, number: int = 0) -> None:
        self._out.send((kind, number))
        sink = pa.BufferOutputStream()
        if batch is not None:
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
        self._out.send_bytes(sink.getvalue())

    def learn(self, answers: pa.RecordBatch) -> None:
        """Sends DNS answers and how many came before: all processes see the same ones in the same order."""
        self.send(_ANSWERS, answers, self._n_answers)
        self._n_answers += len(answers)

    def observe(self, flows: FlowBatch | None, until: int) -> None:
        """Sends open flows."""
        self.send(_OPEN, None if flows is None else flows.to_arrow(), until)


class _Receiver:
    """What comes of several processes, passed on to an observer in one order."""

    def __init__(self, observer: Observer, jobs: int) -> None:
        self._observer = observer
        self._until = [0] * jobs
        self._n_answers = 0

    def learn(self, answers: pa.RecordBatch, n_before: int) -> None:
        """Passes on the answers that no other process has sent before."""
        known = max(self._n_answers - n_before, 0)
        if known < len(answers):
            self._observer.learn(answers.slice(known))
            self._n_answers = n_before + len(answers)

    def observe(self, flows: FlowBatch | None, until: int, index: int) -> None:
        """Passes on open flows; all are there up to the time that the slowest process has reached."""
        if not flows:
            self._until[index] = until
        self._observer.observe(flows, min(self._until))


def _work(
    source: str | Path | Sequence[str | Path],
    options: FlowOptions,
    share: tuple[int, int],
    add_names: Callable[[FlowBatch], FlowBatch] | None,
    read_answers: Callable[[HeaderBatch], pa.RecordBatch] | None,
    out: Connection,
) -> None:
    """One process: sends its batches, then its counters and what went wrong."""
    error = ""
    stats = None
    sender = _Sender(out)
    try:
        reader = FlowReader(
            open_capture(source),
            options,
            share=share,
            add_names=add_names,
            read_answers=read_answers,
            observer=None if read_answers is None else sender,
        )
        stats = reader.stats
        for batch in reader:
            sender.send(_FLOWS, batch.to_arrow())
    except ApptellError as broken:
        error = str(broken)
    out.send((_OVER, 0))
    out.send((stats, error))
    out.close()


def read_flows_in_parallel(
    source: str | Path | Sequence[str | Path],
    options: FlowOptions,
    jobs: int,
    stats: FlowStats,
    add_names: Callable[[FlowBatch], FlowBatch] | None = None,
    read_answers: Callable[[HeaderBatch], pa.RecordBatch] | None = None,
    observer: Observer | None = None,
) -> Iterator[FlowBatch]:
    """Reads flows of files with ``jobs`` processes, in no particular order between the processes.

    Args:
        source: a path, a folder or several; not a stream, since each process reads it.
        options: how packets become flows; ``max_flows`` and ``segment_memory`` are for each process.
        jobs: processes.
        stats: filled in as the processes end.
        add_names: fills the columns of the group *names*.
        read_answers: finds DNS answers among decoded packets, for ``observer``.
        observer: receives DNS answers and open flows early.

    Raises:
        CaptureError: as ``read_flows`` does, after every flow that precedes the damage.
    """
    from multiprocessing.connection import wait

    context = multiprocessing.get_context("spawn")
    workers: list[Any] = []
    waiting: dict[Connection, int] = {}
    receiver = None if observer is None else _Receiver(observer, jobs)
    error = ""
    try:
        for index in range(jobs):
            ours, theirs = context.Pipe(duplex=False)
            reader = None if receiver is None else read_answers
            worker = context.Process(
                target=_work,
                args=(source, options, (index, jobs), add_names, reader, theirs),
                daemon=True,
            )
            worker.start()
            theirs.close()
            workers.append(worker)
            waiting[ours] = index
        while waiting:
            for ready in wait(list(waiting)):
                connection: Any = ready
                try:
                    kind, number = connection.recv()
                    if kind != _OVER:
                        batch = _batch(connection.recv_bytes())
                        if kind == _FLOWS:
                            yield _flows(batch)
                        elif receiver is None:
                            continue
                        elif kind == _ANSWERS:
                            receiver.learn(batch, number)
                        else:
                            opened = None if batch is None else _flows(batch)
                            receiver.observe(opened, number, waiting[connection])
                        continue
                    theirs_stats, said = connection.recv()
                except EOFError:
                    theirs_stats, said = None, "a reading process ended unexpectedly"
                del waiting[connection]
                error = error or said
                if theirs_stats is not None:
                    _add(stats, theirs_stats)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    if error:
        raise CaptureError(error)


def _batch(data: bytes) -> pa.RecordBatch | None:
    """The record batch that a process sent; None for none."""
    return pa.ipc.open_stream(data).read_next_batch() if data else None


def _flows(batch: pa.RecordBatch) -> FlowBatch:
    return FlowBatch(batch.cast(pa.schema(list(batch.schema), SCHEMA.metadata)))


class ParallelFlowReader(FlowReader):
    """A FlowReader whose work several processes share."""

    def __init__(
        self,
        source: Any,
        options: FlowOptions,
        jobs: int,
        in_one_process: bool,
        add_names: Callable[[FlowBatch], FlowBatch] | None = None,
        read_answers: Callable[[HeaderBatch], pa.RecordBatch] | None = None,
        observer: Observer | None = None,
    ) -> None:
        several = isinstance(source, list | tuple)
        paths = source if several else [source]
        if in_one_process or not all(
            isinstance(path, str | os.PathLike) and Path(path).exists() for path in paths
        ):
            raise UsageError("several jobs can read only files and folders; a stream needs one job")
        super().__init__(open_capture(source), options)
        super().close()
        self._source, self._jobs, self._names = source, jobs, add_names
        self._answers, self._watching = read_answers, observer

    def __iter__(self) -> Iterator[FlowBatch]:
        return read_flows_in_parallel(
            self._source,
            self.options,
            self._jobs,
            self.stats,
            self._names,
            self._answers,
            self._watching,
        )


def _add(stats: FlowStats, share: FlowStats) -> None:
    """Adds one process' counters: those that are the same in all are taken once, the others are summed."""
    stats.capture = share.capture
    for name in (
        "packets",
        "status",
        "protocols",
        "fragments",
        "reassembled",
        "tunnelled",
        "not_asked",
    ):
        setattr(stats, name, getattr(share, name))
    stats.in_flows += share.in_flows
    stats.after_close += share.after_close
    stats.flows += share.flows
    stats.evicted += share.evicted
