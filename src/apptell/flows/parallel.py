"""A capture in, its flows out, several processes at work: each takes its share of the 5-tuples.

Every process reads all packets and keeps the flows of its own tuples, so each flow is made by one table
from all its packets in order: the flows are those of one process, wherever the capture is cut.
"""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from apptell.capture import open_capture
from apptell.errors import ApptellError, CaptureError, UsageError
from apptell.flows.reader import FlowReader, FlowStats
from apptell.flows.schema import SCHEMA, FlowBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from apptell.flows.options import FlowOptions


def _work(
    source: str | Path | Sequence[str | Path],
    options: FlowOptions,
    share: tuple[int, int],
    add_names: Callable[[FlowBatch], FlowBatch] | None,
    out: Connection,
) -> None:
    """One process: sends its batches as Arrow IPC, then its counters and what went wrong."""
    error = ""
    stats = None
    try:
        reader = FlowReader(open_capture(source), options, share=share, add_names=add_names)
        stats = reader.stats
        for batch in reader:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.to_arrow().schema) as writer:
                writer.write_batch(batch.to_arrow())
            out.send_bytes(sink.getvalue())
    except ApptellError as broken:
        error = str(broken)
    out.send_bytes(b"")
    out.send((stats, error))
    out.close()


def read_flows_in_parallel(
    source: str | Path | Sequence[str | Path],
    options: FlowOptions,
    jobs: int,
    stats: FlowStats,
    add_names: Callable[[FlowBatch], FlowBatch] | None = None,
) -> Iterator[FlowBatch]:
    """Flows of files, made by ``jobs`` processes, in no order between the processes.

    Args:
        source: a path, a folder or several; not a stream, since each process reads it.
        options: how packets become flows; ``max_flows`` and ``segment_memory`` are for each process.
        jobs: processes.
        stats: filled in as the processes end.
        add_names: fills the columns of the group *names*.

    Raises:
        CaptureError: as ``read_flows`` does, after every flow that precedes the damage.
    """
    from multiprocessing.connection import wait

    context = multiprocessing.get_context("spawn")
    workers: list[Any] = []
    waiting: list[Connection] = []
    error = ""
    try:
        for index in range(jobs):
            ours, theirs = context.Pipe(duplex=False)
            worker = context.Process(
                target=_work, args=(source, options, (index, jobs), add_names, theirs), daemon=True
            )
            worker.start()
            theirs.close()
            workers.append(worker)
            waiting.append(ours)
        while waiting:
            for ready in wait(waiting):
                connection: Any = ready
                try:
                    data = connection.recv_bytes()
                    if data:
                        for batch in pa.ipc.open_stream(data):
                            yield FlowBatch(
                                batch.cast(pa.schema(list(batch.schema), SCHEMA.metadata))
                            )
                        continue
                    theirs_stats, said = connection.recv()
                except EOFError:
                    theirs_stats, said = None, "a reading process ended before its time"
                waiting.remove(connection)
                error = error or said
                if theirs_stats is not None:
                    _add(stats, theirs_stats)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    if error:
        raise CaptureError(error)


class ParallelFlowReader(FlowReader):
    """A FlowReader whose work several processes share."""

    def __init__(
        self,
        source: Any,
        options: FlowOptions,
        jobs: int,
        in_one_process: bool,
        add_names: Callable[[FlowBatch], FlowBatch] | None = None,
    ) -> None:
        several = isinstance(source, list | tuple)
        paths = source if several else [source]
        if in_one_process or not all(
            isinstance(path, str | os.PathLike) and Path(path).exists() for path in paths
        ):
            raise UsageError("several jobs read files and folders, not streams; leave --jobs out")
        super().__init__(open_capture(source), options)
        super().close()
        self._source, self._jobs, self._names = source, jobs, add_names

    def __iter__(self) -> Iterator[FlowBatch]:
        return read_flows_in_parallel(
            self._source, self.options, self._jobs, self.stats, self._names
        )


def _add(stats: FlowStats, share: FlowStats) -> None:
    """Adds one process' counters: what all have seen is taken once, what each has made is summed."""
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
    stats.flows += share.flows
    stats.evicted += share.evicted
