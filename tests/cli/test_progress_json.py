"""``--progress json``: every line of standard error is an object of the documented form."""

import json
import re
from pathlib import Path

import pytest

from apptell.testing import START_NS, app_capture, write_pcap
from tests.cli.in_process import run_here

GUIDE = Path(__file__).parents[2] / "docs/how-to/tracking.md"


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captures")
    for source in ("a", "b"):
        (folder / source).mkdir()
        for seed, app in enumerate(("zoom", "signal")):
            later = 86_400 * 10**9 * (2 * seed + (source == "b"))
            packets = app_capture([app], 6, seed=later % 97, start_ns=START_NS + later)
            write_pcap(folder / source / f"{app}.pcap", packets)
    return folder


def events(said):
    return [json.loads(line) for line in said.splitlines()]


def test_a_build_and_a_training_write_their_steps(captures, tmp_path, monkeypatch):
    code, said = run_here(
        monkeypatch, "dataset", "build", captures, "-o", tmp_path / "d", "--progress", "json"
    )
    assert code == 0
    found = events(said)
    steps = [each for each in found if each["event"] == "progress"]
    assert [each["text"] for each in steps] == [
        "a/signal.pcap", "a/zoom.pcap", "b/signal.pcap", "b/zoom.pcap",
    ]  # fmt: skip
    assert all(each["done"] is None and each["task"] == "reading" for each in steps)
    assert {"begin", "note", "progress", "end"} == {each["event"] for each in found}
    documented = set(re.findall(r"^\| `(\w+)` \|", GUIDE.read_text("utf-8"), re.MULTILINE))
    assert {key for each in found for key in each} == documented

    code, said = run_here(
        monkeypatch, "train", tmp_path / "d", "-o", tmp_path / "m", "-m", "paper-cnn", "--split", "source",
        "--epochs", 2, "--progress", "json",
    )  # fmt: skip
    assert code == 0
    found = events(said)
    done = [each["done"] for each in found if each["event"] == "progress"]
    assert done == sorted(done)
    assert done[-1] == 1
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", x["time"]) for x in found
    )


def test_an_error_is_an_event_too_and_the_next_program_writes_text(tmp_path, monkeypatch):
    words = ("train", tmp_path / "none", "-o", tmp_path / "m")
    code, said = run_here(monkeypatch, *words, "--progress", "json")
    assert code == 1
    assert events(said)[-1]["event"] == "error"
    assert "end" not in {each["event"] for each in events(said)}
    assert run_here(monkeypatch, *words)[1].startswith("apptell: ")


@pytest.mark.parametrize("verb", [("train",), ("compare",), ("reproduce",), ("dataset", "build")])
def test_another_form_is_refused(verb, tmp_path, monkeypatch):
    where = "paper" if verb == ("reproduce",) else tmp_path
    code, said = run_here(monkeypatch, *verb, where, "-o", tmp_path / "x", "--progress", "xml")
    assert (code, "auto nor json" in said) == (2, True)
