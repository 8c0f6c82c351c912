"""The output of a run on a cluster: complete streams stay, abandoned attempts go, nothing else is touched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apptell.cluster import ArchiveFolder
from apptell.errors import OutputError, UsageError
from tests.service.s3_server import s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apptell.verdicts.archive_layout import StreamRecord

OLD, NEW = "0" * 16, "1" * 16
DAY = "2026-11-29"


@pytest.fixture
def folder(tmp_path: Path) -> ArchiveFolder:
    made = ArchiveFolder(tmp_path / "out")
    made.prepare({"a": 1})
    return made


def written(folder: ArchiveFolder, key: str, n_parts: int, *, commit: bool = True) -> StreamRecord:
    record = folder.begin("east", key)
    for number in range(n_parts):
        folder.write_part(record, DAY, f"{key}{number}".encode())
    if commit:
        folder.commit(record)
    return record


def parquet(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*.parquet"))


def test_a_committed_stream_is_known_again(folder: ArchiveFolder, tmp_path: Path) -> None:
    record = written(folder, OLD, 2)
    assert ArchiveFolder(tmp_path / "out").record("east") == record
    assert record.done
    assert parquet(tmp_path) == [f"{OLD}-00000.parquet", f"{OLD}-00001.parquet"]
    assert folder.record("west") is None


def test_a_file_uri_is_a_folder_of_this_machine(tmp_path: Path) -> None:
    folder = ArchiveFolder((tmp_path / "out 1").as_uri())
    folder.prepare({})
    written(folder, OLD, 1)
    assert parquet(tmp_path / "out 1") == [f"{OLD}-00000.parquet"]


def test_a_changed_stream_replaces_its_parts(folder: ArchiveFolder, tmp_path: Path) -> None:
    written(folder, OLD, 3)
    written(folder, NEW, 1)
    assert parquet(tmp_path) == [f"{NEW}-00000.parquet"]


def test_parts_stay_until_their_replacement_is_complete(
    folder: ArchiveFolder, tmp_path: Path
) -> None:
    written(folder, OLD, 1)
    written(folder, NEW, 2, commit=False)
    assert f"{OLD}-00000.parquet" in parquet(tmp_path)
    record = folder.record("east")
    assert record is not None
    assert not record.done


def test_an_abandoned_attempt_leaves_nothing(folder: ArchiveFolder, tmp_path: Path) -> None:
    written(folder, OLD, 4, commit=False)
    written(folder, NEW, 3, commit=False)
    written(folder, NEW, 2)
    assert parquet(tmp_path) == [f"{NEW}-00000.parquet", f"{NEW}-00001.parquet"]


def test_what_others_put_there_is_kept(folder: ArchiveFolder, tmp_path: Path) -> None:
    written(folder, OLD, 1, commit=False)
    day = tmp_path / "out" / "sensor=east" / f"day={DAY}"
    for name in ("mine.parquet", f"{'a' * 16}-00000.parquet", "notes.txt"):
        (day / name).write_bytes(b"mine")
    written(folder, NEW, 1)
    assert sorted(path.name for path in day.iterdir()) == sorted(
        ["mine.parquet", f"{'a' * 16}-00000.parquet", "notes.txt", f"{NEW}-00000.parquet"]
    )


def test_other_settings_and_other_folders_are_refused(
    folder: ArchiveFolder, tmp_path: Path
) -> None:
    folder.prepare({"a": 1})
    with pytest.raises(UsageError, match=r"made with other settings \(a\)"):
        folder.prepare({"a": 2})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="not empty and not an output of apptell archive"):
        ArchiveFolder(tmp_path / "mine").prepare({})
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "spoiled",
    [
        {"parts": ["../../thesis.tex"]},
        {"replaced": ["sensor=east/day=2026-11-29/../../x"]},
        {"replaced": [f"sensor=west/day={DAY}/{OLD}-00000.parquet"]},
        {"sensor": "west"},
        {"more": 1},
    ],
)
def test_a_record_that_names_other_files_is_refused(
    folder: ArchiveFolder, tmp_path: Path, spoiled: dict[str, object]
) -> None:
    written(folder, OLD, 1)
    path = tmp_path / "out" / "_apptell" / "streams" / "east.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **spoiled}))
    with pytest.raises(OutputError, match="not a record of this stream"):
        folder.begin("east", NEW)


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000])
def test_a_record_that_is_not_json_is_refused(
    folder: ArchiveFolder, tmp_path: Path, content: str
) -> None:
    written(folder, OLD, 1)
    (tmp_path / "out" / "_apptell" / "streams" / "east.json").write_text(content)
    with pytest.raises(OutputError, match=r"not valid JSON|not a JSON object"):
        folder.record("east")


@pytest.mark.parametrize("sensor", ["..", ".", "a/b", "a\nb", "ünï", "_apptell", "="])
def test_names_of_sensors_are_one_component(
    folder: ArchiveFolder, tmp_path: Path, sensor: str
) -> None:
    record = folder.begin(sensor, OLD)
    folder.write_part(record, DAY, b"x")
    folder.commit(record)
    (part,) = (tmp_path / "out").rglob("*.parquet")
    assert part.parent.parent.parent == tmp_path / "out"
    assert folder.record(sensor) == record


@pytest.fixture
def stored() -> Iterator[tuple[ArchiveFolder, list[str]]]:
    with s3_server() as bucket:
        folder = ArchiveFolder(bucket.uri("out"))
        folder.prepare({})
        written(folder, OLD, 2)
        written(folder, NEW, 2, commit=False)
        written(folder, NEW, 1)
        folder.prepare({})
        yield folder, bucket.keys()


def test_a_store_is_written_in_the_same_way(stored: tuple[ArchiveFolder, list[str]]) -> None:
    folder, keys = stored
    assert [key for key in keys if key.endswith(".parquet")] == [
        f"out/sensor=east/day={DAY}/{NEW}-00000.parquet"
    ]
    record = folder.record("east")
    assert record is not None
    assert record.done
    assert "secret" not in folder.name
