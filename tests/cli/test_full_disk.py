"""A disk that is full: every verb that writes says so in one line, and leaves what was there."""

import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .in_process import run_here

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size")
ROOM_BYTES = 600
"""Size of a file at which the disk is full."""


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process gets larger than ROOM_BYTES."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    wrote, sys.dont_write_bytecode = (
        sys.dont_write_bytecode,
        True,
    )  # importlib would keep half a file
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = wrote


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    "words",
    [
        ["identify", "CAPTURE", "-m", "MODEL", "-o", "FILE.jsonl"],
        ["identify", "CAPTURE", "-m", "MODEL", "-o", "FILE.parquet"],
        ["identify", "CAPTURE", "-m", "MODEL", "--out", "jsonl:FILE.jsonl"],
        ["flows", "CAPTURE", "-o", "FILE.csv"],
        ["flows", "CAPTURE", "-o", "FILE.parquet"],
        ["live", "--replay", "CAPTURE", "--speed", "max", "-m", "MODEL", "--out", "eve:FILE.json"],
        ["dataset", "build", "RECORDINGS", "-o", "FOLDER", "--labels", "folders"],
        ["dataset", "merge", "DATASET", "DATASET", "-o", "FOLDER"],
        ["dataset", "sample", "DATASET", "-o", "FOLDER", "--per-app", "3"],
        ["dataset", "services", "DATASET", "--shared", "other", "-o", "FOLDER"],
        ["dataset", "export", "DATASET", "-o", "FOLDER"],
        ["evaluate", "MODEL", "DATASET", "-o", "FOLDER"],
        ["audit", "DATASET", "-o", "FOLDER"],
        ["train", "DATASET", "-o", "FOLDER", "--model", "lengths-rf"],
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
                "FOLDER",
            ]
        ],
        ["catalogue", "import", "plain", "LIST", "-o", "FILE.csv"],
        ["demo", "-o", "FOLDER"],
        pytest.param(["reproduce", "paper", "--quick", "-o", "FOLDER"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_a_full_disk_is_one_line_and_nothing_is_half_written(
    capture: Path,
    model: Path,
    dataset: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    listed = tmp_path / "list"
    listed.write_text("".join(f"chat{i}.example,Chat\n" for i in range(100)))
    place = tmp_path / "place"
    place.mkdir()
    places = {
        "CAPTURE": capture, "MODEL": model, "DATASET": dataset, "RECORDINGS": recordings, "LIST": listed,
        "FOLDER": place / "new",
    }  # fmt: skip
    given = [places.get(word, re.sub("FILE", str(place / "new"), word)) for word in words]
    for name in ("new.jsonl", "new.csv", "new.parquet", "new.json"):
        if any(str(word).endswith(name) for word in given):
            (place / name).write_bytes(b"old\n")
    before = contents(place)
    monkeypatch.chdir(tmp_path)
    with full_disk():
        code, said = run_here(monkeypatch, *given)
    assert code == 1, said
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if re.match(r"apptell: (?!compiling)", line)]
    assert len(errors) == 1, said
    assert re.search("File too large|could not be written", errors[0])
    after = contents(place)
    assert {name: after.get(name) for name in before} == before
    new = {name for name in after if name not in before and not name.endswith(".apptell-report")}
    assert new == set()
