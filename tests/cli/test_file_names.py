r"""Captures whose names are no UTF-8: every verb reads them, and shows the odd bytes as ``\xff``."""

import json
import os
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from .conftest import Run
from .in_process import run_here

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
SHOWN = r"ph\xffone\xe9.pcap"


@pytest.fixture
def odd(capture: Path, tmp_path: Path) -> Path:
    folder = tmp_path / os.fsdecode(b"of\xfe")
    folder.mkdir()
    path = folder / os.fsdecode(b"ph\xffone\xe9.pcap")
    path.write_bytes(capture.read_bytes())
    return path


def test_records_name_the_capture_in_every_form(run: Run, odd: Path, tmp_path: Path) -> None:
    done = run("flows", odd, "--format", "jsonl")
    assert {json.loads(line)["capture"] for line in done.stdout.splitlines()} == {SHOWN}
    assert SHOWN in run("flows", odd, "--format", "csv").stdout
    table = tmp_path / "flows.parquet"
    assert run("flows", odd, "-o", table).returncode == 0
    assert set(pq.read_table(table)["capture"].to_pylist()) == {SHOWN}


def test_inspect_identify_and_live_read_it(run: Run, odd: Path) -> None:
    assert json.loads(run("inspect", odd).stdout)["captures"] == [SHOWN]
    for arguments in (
        ["identify", odd, "--format", "jsonl"],
        ["identify", odd.parent, "--format", "csv"],
        ["live", "--replay", odd, "--speed", "max"],
    ):
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_a_dataset_is_built_from_it(run: Run, odd: Path, tmp_path: Path) -> None:
    done = run("dataset", "build", odd.parent, "-o", tmp_path / "data", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["apps"] == {r"ph\xffone\xe9": 8}


ODD = os.fsdecode(b"od\xffd\xe9")


@pytest.mark.parametrize(
    "words",
    [
        ["identify", "CAPTURE", "-m", "MODEL", "--catalogue", "LIST", "-o", "NEW/a.csv"],
        ["identify", "CAPTURE", "--catalogue", "LIST", "--out", "jsonl:NEW/a.jsonl"],
        ["identify", "CAPTURE", "--out", "parquet:NEW/a"],
        ["flows", "CAPTURE", "-o", "NEW/a.parquet"],
        ["live", "--replay", "CAPTURE", "--speed", "max", "-m", "MODEL", "--out", "eve:NEW/a.json"],
        ["dataset", "build", "RECORDINGS", "-o", "NEW/a", "--labels", "folders"],
        ["dataset", "info", "DATASET"],
        ["dataset", "validate", "DATASET"],
        ["dataset", "merge", "DATASET", "DATASET", "-o", "NEW/a"],
        ["dataset", "sample", "DATASET", "-o", "NEW/a", "--per-app", "3"],
        ["dataset", "services", "DATASET", "--shared", "other", "-o", "NEW/a"],
        ["dataset", "export", "DATASET", "-o", "NEW/a"],
        ["train", "DATASET", "-o", "NEW/a", "--model", "lengths-rf"],
        ["evaluate", "MODEL", "DATASET", "-o", "NEW/a"],
        ["audit", "DATASET", "-o", "NEW/a"],
        [
            *[
                "compare",
                "DATASET",
                "--only",
                "--model",
                "lengths-rf",
                "--folds",
                "2",
                "--held-out",
                "0",
                "-o",
                "NEW/a",
            ]
        ],
        ["catalogue", "import", "plain", "LIST", "-o", "NEW/a.csv"],
        ["catalogue", "show", "chat.example", "--catalogue", "LIST"],
        ["--config", "SETTINGS", "config", "show", "identify"],
    ],
    ids=" ".join,
)
def test_every_verb_takes_folders_and_files_whose_names_are_no_utf_8(
    capture: Path,
    model: Path,
    dataset: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    root = tmp_path / ODD
    root.mkdir()
    new = root / "new"
    new.mkdir()
    places = {"CAPTURE": capture, "MODEL": model, "DATASET": dataset, "RECORDINGS": recordings}
    for name, place in places.items():
        if name in words:
            copy = shutil.copytree if place.is_dir() else shutil.copy
            copy(place, root / f"{name}{ODD}")
    (root / f"LIST{ODD}").write_text("chat.example,Chat\n")
    (root / f"SETTINGS{ODD}").write_text('[identify]\nformat = "csv"\n')
    monkeypatch.chdir(tmp_path)

    def given(word: str) -> str:
        if word in (*places, "LIST", "SETTINGS"):
            return str(root / f"{word}{ODD}")
        return word.replace("NEW/a", str(new / f"a{ODD}"))

    code, said = run_here(monkeypatch, *map(given, words))
    assert (code, "Traceback" in said) == (0, False), said
    if any("NEW" in word for word in words):
        (made,) = new.iterdir()
        assert made.name.startswith(f"a{ODD}")
        files = [made] if made.is_file() else list(made.rglob("*"))
        for path in files:
            if path.suffix in (".json", ".jsonl", ".csv", ".md", ".html"):
                path.read_text(encoding="utf-8")  # no half characters


def test_one_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    done = run("inspect", tmp_path / os.fsdecode(b"none\xfe.pcap"))
    assert done.returncode == 1
    assert done.stderr == "apptell: none\\xfe.pcap: no such file\n"


WORD = "\udcff"  # how Python holds a byte that is no UTF-8
MISTAKES = [
    (["live", "-i", WORD], 1, "no such interface"),
    (["top", "-i", "lo" + WORD], 1, "no such interface"),
    (["live", "-i", "lo", "--filter", WORD], 2, "is not text"),
    (["live", "--replay", "CAPTURE", "--out", f"jsonl:kafka:{WORD}:1/t"], 2, "is not text"),
    (["live", "--replay", "CAPTURE", "--out", f"jsonl:syslog:{WORD}"], 2, "is not text"),
    (["train", "DATASET", "-o", "NEW", "--split", f"group:{WORD}"], 1, "no flow has the group"),
    (["dataset", "build", "RECORDINGS", "-o", "NEW", "--anonymize", "FOLDER"], 2, "regular file"),
]


@pytest.mark.parametrize(("words", "code", "message"), MISTAKES, ids=lambda x: None)
def test_words_that_are_no_utf_8_are_a_mistake_where_no_file_can_be_meant(
    capture: Path, dataset: Path, recordings: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, message: str,
) -> None:  # fmt: skip
    places = {"CAPTURE": capture, "DATASET": dataset, "RECORDINGS": recordings, "FOLDER": tmp_path}
    given = [places.get(word, tmp_path / "new" if word == "NEW" else word) for word in words]
    found, said = run_here(monkeypatch, *given)
    assert "Traceback" not in said
    assert message in said
    assert found == code


def test_groups_of_the_command_line_and_paths_in_reports_are_shown_like_those_of_files(
    run: Run, recordings: Path, tmp_path: Path
) -> None:
    place = tmp_path / ODD
    done = run(
        "dataset", "build", recordings, "-o", place, "--group", f"net{WORD}={WORD}", "--json"
    )
    assert done.returncode == 0, done.stderr
    info = json.loads(run("dataset", "info", place).stdout)
    assert info["groups"][r"net\xff"] == {r"\xff": 40}
    shown = json.loads(run("dataset", "validate", place).stdout)["dataset"]
    assert shown.endswith(r"od\xffd\xe9")


@pytest.mark.parametrize(
    "verb", [["identify"], ["explain"], ["flows"], ["catalogue", "check"]], ids=" ".join
)
def test_a_capture_is_not_replaced_by_what_is_read_from_it(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    place = tmp_path / "phone.pcap"
    place.write_bytes(capture.read_bytes())
    (tmp_path / "link.pcap").symlink_to(place)
    for given in (place, tmp_path / "link.pcap"):
        found, said = run_here(monkeypatch, *verb, given, "--format", "jsonl", "-o", place)
        assert (found, "is the capture itself" in said) == (2, True), said
    assert place.read_bytes() == capture.read_bytes()
