"""What a worker writes for a stream: the records of ``identify`` and ``flows``, by day."""

from __future__ import annotations

import lzma
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSystem

import apptell
from apptell.cluster import ArchiveFolder, StreamJob, find_streams, stream_job
from apptell.flows import FlowOptions
from apptell.records.record_filter import parse_filter
from apptell.records.schema import verdict_records
from apptell.verdicts import choose_deciders, identify_flows
from tests.capture.gcs_server import gcs_server

if TYPE_CHECKING:
    from apptell.verdicts.archive_layout import StreamRecord

SAMPLE = Path(apptell.__file__).parent / "samples" / "named" / "named.pcap.xz"
OPTIONS = FlowOptions(transports=(6, 17))


def run(job: StreamJob, source: Path, out: Path) -> StreamRecord:
    folder = ArchiveFolder(out)
    folder.prepare(job.settings())
    (stream,) = find_streams([str(source)])
    return job.run(stream, stream.key("x"), folder)


def rows(out: Path) -> list[dict[str, object]]:
    table = ds.dataset(out, format="parquet", partitioning="hive").to_table()
    return table.drop_columns(["sensor", "day"]).to_pylist()


def test_verdicts_are_those_of_identify(tmp_path: Path) -> None:
    record = run(StreamJob(OPTIONS), SAMPLE, tmp_path / "out")
    deciders = choose_deciders(transports=(6, 17))
    with apptell.read_flows(SAMPLE, OPTIONS, observer=deciders.evidence) as reader:
        expected = [
            row
            for batch in identify_flows(reader, None, None, evidence=deciders.evidence)
            for row in verdict_records(batch).to_pylist()
        ]
    found = rows(tmp_path / "out")
    assert len(found) == record.records == len(expected) > 20
    assert sorted(map(str, found)) == sorted(map(str, expected))
    assert any(row["app"] == "whatsapp" for row in found)


def test_flows_are_those_of_read_flows(tmp_path: Path) -> None:
    record = run(StreamJob(OPTIONS, ("core", "names")), SAMPLE, tmp_path / "out")
    expected = apptell.read_flows(SAMPLE, OPTIONS).to_arrow()
    found = rows(tmp_path / "out")
    assert record.flows == len(found) == len(expected)
    assert sorted(str(row["community_id"]) for row in found) == sorted(
        expected.column("community_id").to_pylist()
    )


def test_a_repetition_gives_the_same_files(tmp_path: Path) -> None:
    for out in ("one", "two"):
        run(StreamJob(OPTIONS), SAMPLE, tmp_path / out)
    first, second = (
        {
            path.relative_to(tmp_path / out): path.read_bytes()
            for path in (tmp_path / out).rglob("*.parquet")
        }
        for out in ("one", "two")
    )
    assert first == second
    assert first


def test_damage_is_noted_and_what_precedes_it_is_kept(tmp_path: Path) -> None:
    whole = lzma.decompress(SAMPLE.read_bytes())
    (tmp_path / "cut.pcap").write_bytes(whole[: len(whole) // 2])
    record = run(StreamJob(OPTIONS), tmp_path / "cut.pcap", tmp_path / "out")
    assert record.done
    assert record.damage is not None
    assert "cut.pcap" in record.damage
    assert 0 < record.records == len(rows(tmp_path / "out"))


def test_models_travel_as_bytes(tmp_path: Path) -> None:
    from apptell.models.model import DEFAULT_MODEL

    job = StreamJob(
        FlowOptions(),
        evidence="model",
        model=stream_job.model_files(DEFAULT_MODEL),
        catalogue=(("mine.csv", b"domain,app\nmine.example,mine\n"),),
    )
    run(job, SAMPLE, tmp_path / "out")
    assert {row["evidence"] for row in rows(tmp_path / "out")} <= {"model", None}


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_files_end_where_they_end_whatever_the_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    monkeypatch.setattr(stream_job, "PART_RECORDS", 10)
    monkeypatch.setattr(stream_job, "_MAX_OPEN_RECORDS", 25)
    random = np.random.default_rng(5)
    days = random.choice([-1, 0, 1, 2, 20_000], 137)
    table = pa.table({"start_ns": days * 86_400 * 10**9 + 5, "number": np.arange(137)})
    folder = ArchiveFolder(tmp_path / "out")
    folder.prepare({})
    record = folder.begin("east", "0" * 16)
    collected = stream_job._Days(record, folder)
    for start in range(0, 137, batch_rows):
        for batch in table.slice(start, batch_rows).combine_chunks().to_batches():
            collected.add(batch)
    collected.close()
    assert record.records == 137
    sizes = [pq.read_metadata(tmp_path / "out" / part).num_rows for part in record.parts]
    assert max(sizes) <= 10
    kept = {
        part: pq.ParquetFile(tmp_path / "out" / part).read().column("number").to_pylist()
        for part in record.parts
    }
    assert sorted(chain.from_iterable(kept.values())) == list(range(137))
    for part, numbers in kept.items():
        day = np.datetime64(part.split("/")[1].removeprefix("day="), "D").astype(int)
        assert {days[number] for number in numbers} == {day}
    monkeypatch.undo()
    digest = [(part, *kept[part]) for part in record.parts]
    assert digest == _REFERENCE.setdefault("parts", digest)


_REFERENCE: dict[str, list[tuple[object, ...]]] = {}


def test_a_filter_selects_records_and_is_among_the_settings(tmp_path: Path) -> None:
    wanted = parse_filter(apps=["whatsapp", "signal"], clients=["10.0.0.0/8"])
    job = StreamJob(OPTIONS, wanted=wanted)
    record = run(job, SAMPLE, tmp_path / "out")
    found = rows(tmp_path / "out")
    assert {row["app"] for row in found} == {"whatsapp", "signal"}
    assert record.records == len(found) < record.flows
    settings = job.settings()
    assert settings.pop("filters") == {"apps": ["signal", "whatsapp"], "clients": ["10.0.0.0/8"]}
    assert settings == StreamJob(OPTIONS).settings()


def test_an_archive_lies_in_a_store_of_google_s_protocol_too() -> None:
    job = StreamJob(OPTIONS, ("core", "names"))
    with gcs_server() as google:
        google.put("day/named.pcap.xz", SAMPLE.read_bytes())
        (stream,) = find_streams([google.uri("day")])
        for _ in range(2):  # what the first attempt wrote is replaced by the same
            folder = ArchiveFolder(google.uri("records"))
            folder.prepare(job.settings())
            record = job.run(stream, stream.key(repr(job.settings())), folder)
            folder.write_manifest(job.settings(), [record])
            store, root = FileSystem.from_uri(google.uri("records"))
            table = ds.dataset(f"{root}/sensor=day", filesystem=store).to_table()
            assert len(table) == record.records == 68
