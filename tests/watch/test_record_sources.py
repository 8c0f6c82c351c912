"""The folder of ``apptell archive`` shows ``drift`` and ``discover`` what the captures show."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apptell.cluster import ArchiveFolder, StreamJob, find_streams, model_files
from apptell.errors import CaptureError, UsageError
from apptell.flows import FlowOptions
from apptell.learning import train_model
from apptell.models import load_model
from apptell.testing import START_NS, app_capture, flow_batch, write_pcap
from apptell.watch import Observations, measure_drift
from apptell.watch.discover import discover
from apptell.watch.observed_sources import RATE, observe
from apptell.watch.record_sources import are_records, read_all_records
from apptell.watch.traffic import gather

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

APPS = ["briar", "matrix", "signal", "zoom"]
SENSORS = ("east", "west", "north of here")
DAY = 86_400_000_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("watched") / "model"
    labels = APPS * 30
    train_model(
        flow_batch(labels), labels, model="lengths-rf", out=path, hyperparameters={"n_trees": 5},
        unknown=True,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sensors with captures of the same names on the same days, whose clients have the same addresses."""
    path = tmp_path_factory.mktemp("captures")
    for number, sensor in enumerate(SENSORS):
        (path / sensor).mkdir()
        for day in range(2):
            packets = app_capture(
                [APPS[(number + day) % 4], "viber"], 5, seed=9 * number + day,
                start_ns=START_NS + day * DAY,
            )  # fmt: skip
            write_pcap(path / sensor / f"{day}.pcap", packets)
    return path


def archived(
    captures: Path, model: Path, out: Path, *, groups: tuple[str, ...] | None = None
) -> Path:
    """What ``apptell archive --evidence model --unknown 5%`` writes, without Ray."""
    used = load_model(model)
    job = StreamJob(
        FlowOptions(transports=used.transports, decision_packets=used.decision_packets),
        groups,
        evidence=None if groups else "model",
        model=None if groups else model_files(model),
        unknown=RATE,
    )
    target = ArchiveFolder(out)
    target.prepare(job.settings())
    for stream in find_streams([f"{captures}/*"]):
        job.run(stream, stream.key("x"), target)
    return out


@pytest.fixture(scope="module")
def archive(captures: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archived(captures, folder, tmp_path_factory.mktemp("archive") / "out")


def test_drift_of_an_archive_is_that_of_its_captures(
    captures: Path, folder: Path, archive: Path
) -> None:
    model = load_model(folder)
    parts = []
    for sensor in SENSORS:
        seen = observe([str(captures / sensor)], model)
        parts.append(replace(seen, key=as_objects([(sensor, *key) for key in seen.key])))
    of_captures = Observations(
        *(
            np.concatenate([getattr(part, each.name) for part in parts])
            for each in fields(Observations)
        )
    )
    of_archive = observe([str(archive)], model)
    assert len(of_captures) == len(of_archive) == len(SENSORS) * 2 * 10
    one, other = (
        measure_drift(seen, model.apps, model.prior, model.held_out, "m").to_json()["apps"]
        for seen in (of_captures, of_archive)
    )
    assert [each["app"] for each in one] == [each["app"] for each in other]
    assert sum(each["unknown"] > 0 for each in one) > 0
    for mine, theirs in zip(one, other, strict=True):
        for key in ("flows", "disagreement", "declined", "unknown", "p_unknown", "new_stack"):
            assert mine[key] == pytest.approx(theirs[key], abs=2e-4), key


def as_objects(keys: list[tuple[str, ...]]) -> NDArray[Any]:
    found = np.empty(len(keys), dtype=object)
    found[:] = keys
    return found


def test_discover_finds_in_an_archive_what_it_finds_in_one_file_of_its_records(
    folder: Path, archive: Path, tmp_path: Path
) -> None:
    model = load_model(folder)
    pq.write_table(pa.concat_tables(read_all_records([str(archive)])), tmp_path / "all.parquet")
    of_archive = gather([str(archive)], model)
    of_file = gather([str(tmp_path / "all.parquet")], model)
    assert of_archive.table.equals(of_file.table)
    np.testing.assert_array_equal(of_archive.is_strange, of_file.is_strange)
    one, other = (discover([str(each)], model) for each in (archive, tmp_path / "all.parquet"))
    assert one.to_json() == other.to_json()
    assert one.flows == len(SENSORS) * 2 * 10
    assert one.strange > 0


def test_clients_of_different_sensors_are_different_clients(archive: Path) -> None:
    addresses: list[str] = []
    names: list[str] = []
    for table in read_all_records([str(archive)]):
        addresses += table["client_address"].to_pylist()
        names += table["capture"].to_pylist()
    assert set(names) == {f"{sensor}/{day}.pcap" for sensor in SENSORS for day in range(2)}
    assert len(set(zip(addresses, names, strict=True))) > len(set(addresses))


def test_what_an_attempt_left_is_not_read(captures: Path, folder: Path, tmp_path: Path) -> None:
    archive = archived(captures, folder, tmp_path / "out")
    whole = sum(map(len, read_all_records([str(archive)])))
    part = next(archive.glob("sensor=east/*/*.parquet"))
    part.with_name(f"{'0' * 16}-00000.parquet").write_bytes(part.read_bytes())
    assert sum(map(len, read_all_records([str(archive)]))) == whole
    described = archive / "_apptell" / "streams" / "east.json"
    found = json.loads(described.read_text())
    for change, words in (
        ({"done": False}, "the records of east are not complete"),
        ({"parts": ["../../secret.parquet"]}, "does not describe a stream"),
        ({"parts": [f"../day=x/{'0' * 16}-00000.parquet"]}, "does not describe a stream"),
        ({"sensor": 3}, "does not describe a stream"),
    ):
        described.write_text(json.dumps(found | change))
        with pytest.raises(CaptureError, match=words):
            read_all_records([str(archive)])
    described.write_text("[")
    with pytest.raises(CaptureError, match="not valid JSON"):
        read_all_records([str(archive)])


def test_an_archive_of_flows_and_a_mixture_are_refused(
    captures: Path, folder: Path, archive: Path, tmp_path: Path
) -> None:
    model = load_model(folder)
    flows = archived(captures, folder, tmp_path / "flows", groups=("core", "names"))
    with pytest.raises(CaptureError, match="not records of verdicts"):
        observe([str(flows)], model)
    with pytest.raises(CaptureError, match="not records of verdicts"):
        gather([str(flows)], model)
    with pytest.raises(UsageError, match="not both"):
        are_records([str(archive), str(captures)])
    assert not are_records([str(captures)])
    assert are_records([str(archive), "more.jsonl"])
