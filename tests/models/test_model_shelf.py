"""Versions are plain folders, and the file ``current`` names a version that can be loaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from apptell.cli.app import app as command_line
from apptell.errors import ModelError, OutputError, UsageError
from apptell.models import write_model
from apptell.models.model_shelf import ModelShelf, shelves
from tests.models.tiny import info, network

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def shelf(tmp_path: Path) -> ModelShelf:
    found = ModelShelf(tmp_path / "registry" / "phones")
    for number in (1, 2, 3):
        write_model(tmp_path / f"m{number}", network(), info(threshold=number / 10), "# card\n")
        assert found.add(tmp_path / f"m{number}") == str(number)
    return found


def test_versions_are_promoted_and_rolled_back_in_their_order(shelf: ModelShelf) -> None:
    assert (shelf.current, shelf.versions()) == (None, ["1", "2", "3"])
    for version in ("1", "3", "3", "2"):
        shelf.promote(version)
        assert shelf.current == version
    assert [shelf.rollback(), shelf.rollback()] == ["3", "1"]
    assert shelf.current == "1"
    with pytest.raises(UsageError, match="no version was in use before 1"):
        shelf.rollback()
    assert (shelf.folder / "current").read_text() == "1\n"
    assert not (shelf.folder / "current").is_symlink()


def test_a_challenger_is_none_any_more_when_it_is_promoted(shelf: ModelShelf) -> None:
    shelf.promote("1")
    shelf.challenge("2")
    assert (shelf.current, shelf.challenger) == ("1", "2")
    with pytest.raises(UsageError, match="cannot challenge itself"):
        shelf.challenge("1")
    shelf.promote("2")
    assert (shelf.current, shelf.challenger) == ("2", None)


def test_a_version_that_cannot_be_loaded_is_not_promoted(shelf: ModelShelf) -> None:
    shelf.promote("1")
    (shelf.folder / "2" / "model.onnx").write_bytes(b"damaged")
    for change in (shelf.promote, shelf.challenge):
        with pytest.raises(ModelError, match="SHA-256"):
            change("2")
    with pytest.raises(UsageError, match="no version '9'; available: 1, 2, 3"):
        shelf.promote("9")
    assert shelf.current == "1"


def test_names_and_files_of_strangers_are_refused(shelf: ModelShelf, tmp_path: Path) -> None:
    for name in ("..", ".", "", "a/b", "-x", "a\nb", "x" * 65, "current"):
        with pytest.raises((UsageError, OutputError)):
            shelf.add(tmp_path / "m1", name)
    with pytest.raises(OutputError, match="already exists"):
        shelf.add(tmp_path / "m1", "2")
    (shelf.folder / "4").symlink_to(tmp_path / "m1", target_is_directory=True)
    assert shelf.versions() == ["1", "2", "3"]
    with pytest.raises(UsageError, match="no version '4'"):
        shelf.path("4")
    for content in ("../../etc\n", "x" * 1000, "\xff"):
        (shelf.folder / "current").write_text(content, encoding="latin-1")
        with pytest.raises(ModelError, match="current"):
            _ = shelf.current
    (shelf.folder / "current").unlink()
    (shelf.folder / "current").symlink_to("/etc/hostname")
    with pytest.raises(ModelError, match="current"):
        _ = shelf.current
    for content in ("{", "{}", "[1]"):
        (shelf.folder / "history.json").write_text(content)
        with pytest.raises(ModelError, match=r"history\.json"):
            shelf.rollback()
    with pytest.raises(UsageError, match="cannot be the name of a model"):
        ModelShelf(tmp_path / "a b")


def test_an_added_version_is_the_whole_model(shelf: ModelShelf, tmp_path: Path) -> None:
    for file in (tmp_path / "m2").iterdir():
        assert (shelf.folder / "2" / file.name).read_bytes() == file.read_bytes()
    assert shelf.load("2").threshold == 0.2
    assert [each.name for each in shelves(tmp_path / "registry")] == ["phones"]


def test_the_verbs_of_a_registry(shelf: ModelShelf, tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(command_line, ["models", *words])
        return done.exit_code, done.stdout

    one = str(shelf.folder)
    assert run("add", str(tmp_path / "m1"), one, "--version", "spring")[0] == 0
    assert run("promote", one, "1")[0] == 0
    assert run("promote", one, "2", "--shadow")[0] == 0
    assert json.loads(run("list", str(tmp_path / "registry"), "--json")[1]) == {
        "models": [
            {"model": "phones", "current": "1", "challenger": "2", "versions": ["1", "2", "3", "spring"]}
        ]
    }  # fmt: skip
    assert run("rollback", one, "--shadow")[0] == 0
    assert (shelf.current, shelf.challenger) == ("1", None)
    assert run("promote", one, "3")[0] == 0
    shown = json.loads(run("show", one, "--json")[1])
    assert (shown["version"], shown["is_current"], shown["lineage"]) == ("3", True, [])
    assert run("rollback", one)[0] == 0
    assert shelf.current == "1"
    assert run("rollback", one)[0] == 2
    assert run("promote", one, "9")[0] == 2
    assert run("show", str(tmp_path / "none"))[0] == 2
    assert run("list", str(tmp_path / "none"))[0] == 1


def test_the_folder_of_one_model_is_no_registry(tmp_path):
    (tmp_path / "phones" / "1").mkdir(parents=True)
    (tmp_path / "phones" / "current").write_text("1\n")
    assert [shelf.name for shelf in shelves(tmp_path)] == ["phones"]
    with pytest.raises(
        ModelError, match="the folder of one model; a registry is the folder above it"
    ):
        shelves(tmp_path / "phones")
