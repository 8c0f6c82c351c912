"""Runs a job on the streams of an archive with Ray, which repeats what a lost worker or node was doing."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import ApptellError, MissingError, UsageError, needs_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from apptell.cluster.archive_folder import ArchiveFolder
    from apptell.cluster.sensor_streams import SensorStream
    from apptell.cluster.stream_job import StreamJob
    from apptell.verdicts.archive_layout import StreamRecord

LOCAL: Final = "local"
"""The address that stands for a cluster of this machine's cores, which ends with the run."""
RETRIES: Final = 5
"""How often a task is repeated whose worker or node was lost."""
_LOOPBACK: Final = "127.0.0.1"


@dataclass(slots=True)
class ArchiveReport:
    """What a run did."""

    records: list[StreamRecord] = field(default_factory=list)
    """Streams that are complete, in the order of their names."""
    n_skipped: int = 0
    """Streams of them that an earlier run had completed."""
    failures: dict[str, str] = field(default_factory=dict)
    """Sensor → what went wrong, for streams that were not completed."""


def run_archive(
    job: StreamJob,
    streams: Sequence[SensorStream],
    folder: ArchiveFolder,
    address: str = LOCAL,
    notify: Callable[[str], None] = lambda _: None,
) -> ArchiveReport:
    """Runs a job on streams that are not complete yet; a stream is one task.

    Args:
        job: what to do with each.
        streams: what to read.
        folder: where the records go. Streams that it already has, with the same files, are not read again.
        address: ``local``, ``auto`` for the cluster that this machine belongs to, or ``HOST:PORT`` of one.
        notify: called with a line about each stream that is completed.

    Raises:
        UsageError: the folder was made with other settings, or there is no cluster at the address.
        OutputError: the folder cannot be read or written.
        MissingError: Ray is not installed.
    """
    settings = job.settings()
    folder.prepare(settings)
    report = ArchiveReport()
    waiting: list[tuple[SensorStream, str]] = []
    done: dict[str, StreamRecord] = {}
    for stream in streams:
        key = stream.key(repr(settings))
        record = folder.record(stream.sensor)
        if record is not None and record.done and record.key == key:
            if record.replaced or record.abandoned_keys:
                folder.commit(record)  # the run before ended between two of its steps
            done[stream.sensor] = record
        else:
            waiting.append((stream, key))
    report.n_skipped = len(done)
    if waiting:
        with connected(address) as ray:
            _run_tasks(ray, job, waiting, folder, done, report, notify)
    report.records = [done[sensor] for sensor in sorted(done)]
    folder.write_manifest(settings, report.records)
    return report


def _run_tasks(
    ray: Any,
    job: StreamJob,
    waiting: list[tuple[SensorStream, str]],
    folder: ArchiveFolder,
    done: dict[str, StreamRecord],
    report: ArchiveReport,
    notify: Callable[[str], None],
) -> None:
    """Keeps twice as many tasks submitted as there are cores; the largest streams go first."""
    task = ray.remote(num_cpus=1, max_retries=RETRIES, retry_exceptions=False)(_run_stream)
    shared_job = ray.put(job)
    todo = sorted(waiting, key=lambda each: sum(size for _, size, _ in each[0].files))
    running: dict[Any, SensorStream] = {}
    while todo or running:
        at_once = 2 * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        while todo and len(running) < at_once:
            stream, key = todo.pop()
            running[task.remote(shared_job, stream, key, folder)] = stream
        ready, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
        for reference in ready:
            stream = running.pop(reference)
            try:
                record, error = ray.get(reference)
            except ray.exceptions.RayTaskError:
                raise  # a defect: its traceback says more than a line
            except ray.exceptions.RayError as lost:
                record, error = None, f"its worker was lost {RETRIES + 1} times: {_first(lost)}"
            if record is None:
                report.failures[stream.sensor] = error
                notify(f"{stream.sensor}: {error}")
                continue
            done[stream.sensor] = record
            notify(f"{stream.sensor}: {record.records:,} records of {record.flows:,} flows")


def _run_stream(
    job: StreamJob, stream: SensorStream, key: str, folder: ArchiveFolder
) -> tuple[StreamRecord | None, str]:
    """The task: what was written, or what went wrong. Only a lost worker is repeated."""
    try:
        return job.run(stream, key, folder), ""
    except ApptellError as error:
        return None, str(error)


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextmanager
def connected(address: str, what: str = "archive") -> Iterator[Any]:
    """Ray, connected. A connection that was there before is used and kept.

    Args:
        address: ``local``, ``auto`` or ``HOST:PORT``.
        what: what needs Ray, as the subject of a sentence.

    Raises:
        UsageError: there is no cluster at the address.
        MissingError: Ray is not installed, or cannot be started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    with needs_extra("cluster", what):
        import ray

    if ray.is_initialized():
        yield ray
        return
    try:
        if address == LOCAL:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address=_LOOPBACK,
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(f"no Ray cluster at {address}: {_first(error)}") from None
    except OSError as error:
        raise MissingError(f"Ray cannot be started: {error}") from None
    except Exception as error:
        if type(error) is not Exception:
            raise
        # what Ray raises where its processes did not start in time, as on a busy machine
        raise MissingError(f"Ray cannot be started: {_first(error)}") from None
    try:
        yield ray
    finally:
        ray.shutdown()
