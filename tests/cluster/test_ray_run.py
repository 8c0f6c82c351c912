"""Runs on a real Ray cluster of two nodes: workers and a node are killed, and nothing is lost or repeated."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds
import pytest

import apptell
from apptell.cluster import ArchiveFolder, StreamJob, find_streams
from apptell.cluster.ray_run import connected, run_archive
from apptell.errors import MissingError, UsageError
from apptell.flows import FlowOptions
from tests.cluster import NODE

if TYPE_CHECKING:
    from apptell.cluster.sensor_streams import SensorStream
    from apptell.verdicts.archive_layout import StreamRecord

ray = pytest.importorskip("ray", reason="Ray is not installed")
SAMPLE = Path(apptell.__file__).parent / "samples" / "named" / "named.pcap.xz"
OPTIONS = FlowOptions(transports=(6, 17))
N_STREAMS = 6
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for number in range(N_STREAMS):
        sensor = folder / f"sensor-{number}"
        sensor.mkdir()
        (sensor / "a.pcap.xz").write_bytes(SAMPLE.read_bytes())
    return folder


@dataclass(frozen=True, slots=True)
class KilledOnce(StreamJob):
    """A job whose worker dies on its first attempt at one stream, with a part written and not committed."""

    flag: str = ""

    def run(self, stream: SensorStream, key: str, folder: ArchiveFolder) -> StreamRecord:
        """Dies once, then runs."""
        if stream.sensor == "sensor-3" and not Path(self.flag).exists():
            Path(self.flag).touch()
            record = folder.begin(stream.sensor, key)
            for _ in range(3):
                folder.write_part(record, "2001-01-01", b"half of an attempt")
            os.kill(os.getpid(), signal.SIGKILL)
        return StreamJob.run(self, stream, key, folder)


def rows(out: Path) -> list[str]:
    return sorted(
        map(str, ds.dataset(out, format="parquet", partitioning="hive").to_table().to_pylist())
    )


@pytest.fixture(scope="module")
def expected(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The records of one process that reads each stream."""
    out = tmp_path_factory.mktemp("alone") / "out"
    job, folder = StreamJob(OPTIONS), ArchiveFolder(out)
    folder.prepare(job.settings())
    for stream in find_streams([f"{archive}/*"]):
        job.run(stream, stream.key(""), folder)
    return rows(out)


@pytest.mark.slow
def test_killed_workers_and_nodes_lose_and_repeat_nothing(
    cluster: Any, archive: Path, expected: list[str], tmp_path: Path
) -> None:
    node = cluster.add_node(**NODE, resources={"second": 1})
    second = ray.remote(resources={"second": 0.1})(lambda: os.getpid())
    assert ray.get(second.remote()) != os.getpid()  # it has a worker now
    lines: list[str] = []

    def notify(line: str) -> None:
        lines.append(line)
        if len(lines) == 1:  # tasks are running on the second node
            cluster.remove_node(node, allow_graceful=False)

    out = tmp_path / "out"
    job = KilledOnce(OPTIONS, flag=str(tmp_path / "flag"))
    report = run_archive(job, find_streams([f"{archive}/*"]), ArchiveFolder(out), "auto", notify)
    assert report.failures == {}
    assert (tmp_path / "flag").exists()
    assert rows(out) == expected
    assert len(lines) == N_STREAMS

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    again = run_archive(job, find_streams([f"{archive}/*"]), ArchiveFolder(out), "auto", notify)
    assert again.n_skipped == N_STREAMS
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == before


def test_a_stream_that_grew_is_read_again(cluster: Any, archive: Path, tmp_path: Path) -> None:
    del cluster
    sensor = tmp_path / "sensor-x"
    sensor.mkdir()
    (sensor / "a.pcap.xz").write_bytes(SAMPLE.read_bytes())
    job, out = StreamJob(OPTIONS), ArchiveFolder(tmp_path / "out")
    run_archive(job, find_streams([str(sensor)]), out, "auto")
    n_before = len(rows(tmp_path / "out"))
    (sensor / "b.txt").write_text("not a capture")
    report = run_archive(job, find_streams([str(sensor)]), out, "auto")
    assert report.n_skipped == 0
    assert len(rows(tmp_path / "out")) == n_before


def test_a_broken_stream_does_not_stop_the_others(
    cluster: Any, archive: Path, tmp_path: Path
) -> None:
    del cluster
    (tmp_path / "broken.pcap").write_bytes(b"not a capture at all")
    sources = [str(tmp_path / "broken.pcap"), str(archive / "sensor-0")]
    report = run_archive(
        StreamJob(OPTIONS), find_streams(sources), ArchiveFolder(tmp_path / "out"), "auto"
    )
    damage = {record.sensor: record.damage for record in report.records}
    assert damage["sensor-0"] is None
    assert damage["broken.pcap"] is not None
    assert len(rows(tmp_path / "out")) > 20


def test_settings_that_do_not_fit_are_refused_before_ray_starts(
    archive: Path, tmp_path: Path
) -> None:
    folder = ArchiveFolder(tmp_path / "out")
    folder.prepare({"made": "otherwise"})
    with pytest.raises(UsageError, match="made with other settings"):
        run_archive(StreamJob(OPTIONS), find_streams([str(archive)]), folder)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (Exception("The current node timed out during startup.\nMore."), MissingError),
        (OSError("no memory"), MissingError),
        (ValueError("no address"), UsageError),
        (KeyError("a defect"), KeyError),
    ],
)
def test_what_keeps_ray_from_starting_is_said_in_a_line(monkeypatch, raised, expected):
    def init(**_: object) -> None:
        raise raised

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(expected) as error, connected("local"):
        pass
    if expected is MissingError:
        assert "\n" not in str(error.value)
        assert str(error.value).startswith("Ray cannot be started: ")
