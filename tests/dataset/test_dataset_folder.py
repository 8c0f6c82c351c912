"""A dataset's folder: what apptell made goes, what anybody else put there stays."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from apptell.dataset import Dataset, DatasetWriter, build
from apptell.dataset.change import merge, sample
from apptell.dataset.dataset_folder import RECORD_FILE
from apptell.dataset.services import move_shared
from apptell.errors import DatasetError
from apptell.testing import flow_batch


class Source:
    kind = "folders"

    def __init__(self, name, label="chat", n=4):
        self.name, self.files, self.dropped, self.facts = name, [], Counter(), {}
        connection = np.arange(n, dtype=np.uint64) + (hash((name, label)) & 0xFFFFFFFF)
        self._flows = flow_batch([label] * n).with_columns(connection_id=connection)

    def flows(self):
        yield self._flows


def made(path, label="chat"):
    return build([Source("a", label)], path).dataset


OTHERS = (
    "flows-notes.csv",
    "notes.tmp",
    "flows-00000-000000000000.parquet",
    ".README.md.01234567.tmp",
    "thesis.tex",
)


@pytest.mark.parametrize("replace", [False, True])
def test_files_of_the_user_in_a_dataset_survive_every_build(tmp_path, replace):
    folder = tmp_path / "d"
    made(folder)
    for name in OTHERS:
        (folder / name).write_text(name)
    (folder / "flows-sub").mkdir()
    build([Source("b")], folder, replace=replace)
    move_shared(Dataset.open(folder), folder, "drop", least=2)
    for name in OTHERS:
        assert (folder / name).read_text() == name
    assert (folder / "flows-sub").is_dir()


@pytest.mark.parametrize("name", [*OTHERS, "README.md", ".hidden"])
def test_a_folder_with_anything_else_and_no_dataset_is_refused(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(DatasetError, match="not empty and not a dataset"):
        made(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("text", ["", "{}", "[]", "mine"])
@pytest.mark.parametrize("replace", [False, True])
def test_a_file_named_dataset_json_alone_makes_no_dataset(tmp_path, text, replace):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match=r"dataset.json"):
        build([Source("a")], tmp_path, replace=replace)
    assert (tmp_path / "dataset.json").read_text() == text


def test_a_readme_that_was_edited_is_kept_and_one_that_was_not_is_renewed(tmp_path):
    folder = tmp_path / "d"
    made(folder)
    before = (folder / "README.md").read_text()
    build([Source("b", "mail")], folder)
    assert (folder / "README.md").read_text() != before
    (folder / "README.md").write_text("my notes")
    build([Source("c", "maps")], folder)
    assert (folder / "README.md").read_text() == "my notes"


def test_a_dataset_of_another_version_can_be_replaced_and_not_added_to(tmp_path):
    folder = tmp_path / "d"
    made(folder)
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**info, "flow_schema": 0}))
    with pytest.raises(DatasetError, match=r"flow_schema is 0, .* build it again"):
        build([Source("b")], folder)
    assert len(build([Source("b")], folder, replace=True).dataset) == 4
    assert len(list(folder.glob("*.parquet"))) == 1


def test_merge_sample_and_services_replace_another_dataset_only_when_asked(tmp_path):
    one, two, other = (made(tmp_path / name, name) for name in ("one", "two", "other"))
    for change in (
        lambda replace: merge([one, two], other.path, replace=replace),
        lambda replace: sample(one, other.path, 1, replace=replace),
        lambda replace: move_shared(one, other.path, "drop", least=2, replace=replace),
    ):
        before = Dataset.open(other.path).hash
        with pytest.raises(DatasetError, match="a dataset already exists and is not replaced"):
            change(False)
        assert Dataset.open(other.path).hash == before
        change(True)
    with pytest.raises(DatasetError, match="not replaced"):
        sample(one, one.path, 1)
    assert len(merge([one, two], one.path)) == 8  # one of the merged: nothing is lost


def test_what_a_killed_build_leaves_is_deleted_by_the_next_one(tmp_path):
    program = textwrap.dedent("""
        import os, signal, sys
        sys.path.insert(0, sys.argv[1])
        from test_dataset_folder import Source, DatasetWriter
        with DatasetWriter(sys.argv[2]) as writer:
            for batch in Source("a", n=3000).flows():
                writer.write(batch)
            writer.folder.scratch("spool").write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    folder = tmp_path / "d"
    done = subprocess.run(
        [sys.executable, "-c", program, Path(__file__).parent, folder], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(list(folder.glob(".*.tmp"))) == 2
    made(folder)
    assert {file.name for file in folder.iterdir()} == {
        "README.md", "dataset.json", RECORD_FILE, Dataset.open(folder).info["shards"][0]["file"],
    }  # fmt: skip


def test_a_record_of_a_stranger_deletes_nothing(tmp_path):
    folder = tmp_path / "d"
    made(folder)
    (folder / "notes.txt").write_text("mine")
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    record = folder / RECORD_FILE
    with DatasetWriter(folder) as writer:
        writer.folder.record(
            "notes.txt", "../outside.txt", str(outside), "dataset.json", "flows-sub"
        )
    made(folder)
    assert (folder / "notes.txt").exists()
    assert outside.exists()
    record.write_text("my own file")
    with pytest.raises(DatasetError, match="was not written by apptell; move it away"):
        made(folder)
    assert record.read_text() == "my own file"
    record.unlink()
    record.symlink_to(outside)
    with pytest.raises(DatasetError):
        made(folder)
    assert outside.read_text() == "mine"


def test_a_folder_that_may_not_be_written_is_said_in_one_line(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(DatasetError, match="cannot be written"):
        made(tmp_path / "d")
