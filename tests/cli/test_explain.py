"""``apptell explain`` and ``identify --explain``."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from apptell.testing import client_hello, conversation, flow_batch, write_pcap

from .conftest import Run


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow whose server name tries to be HTML and a terminal's escape sequence at once."""
    hello = bytearray(client_hello("aaaaaaaaaaaaaaaaaaaaaaaaaa.example"))
    at = hello.index(b"aaaa")
    hello[at : at + 26] = b"<script>alert(1)</script>\x1b"
    messages = [(True, bytes(hello)), (False, b"\x17\x03\x03\0\x04abcd")]
    place = tmp_path_factory.mktemp("named") / "named.pcap"
    return write_pcap(place, conversation(("192.168.1.2", 40_000), ("203.0.113.9", 443), messages))


def test_each_flow_is_explained_as_one_json_object(run: Run, capture: Path, model: Path) -> None:
    done = run("explain", capture, "-m", model)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 8
    for row in rows:
        assert row["reason"].endswith(".")
        reason = row["model"]
        total = reason["base"] + sum(each["value"] for each in reason["contributions"])
        assert total == pytest.approx(reason["total"], abs=1e-4)
        assert [step["kind"] for step in row["steps"]] == [
            "name",
            "dns",
            "address",
            "range",
            "model",
        ]


def test_one_flow_as_text(run: Run, capture: Path, model: Path) -> None:
    first = json.loads(run("explain", capture, "-m", model, "--limit", 1).stdout)
    flow = first["community_id"]
    done = run("explain", capture, "-m", model, "--flow", flow, "--format", "table", "--most", 3)
    assert done.returncode == 0, done.stderr
    assert flow in done.stdout
    assert "5. model    the model paper-rf@" in done.stdout
    assert len(re.findall(r"^ +[+-]\d+\.\d{3}  statistics", done.stdout, re.MULTILINE)) == 3
    assert "further parts" in done.stdout


def test_a_flow_that_is_not_there_is_said(run: Run, capture: Path) -> None:
    done = run("explain", capture, "--flow", "1:AAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no flow with a verdict has the Community ID 1:AAAA" in done.stderr
    assert "is no Community ID" in run("explain", capture, "--flow", "x").stderr


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.titles: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.titles |= {value for name, value in attrs if name == "title" and value}


def test_the_page_shows_bytes_with_their_fields_and_runs_nothing(
    run: Run, named: Path, tmp_path: Path
) -> None:
    page = tmp_path / "reasons.html"
    done = run("explain", named, "-o", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text("utf-8")
    found = Tags(text)
    assert "script" not in found.tags
    assert "<script" not in text
    assert {"record header", "random", "cipher list", "extension server_name"} <= found.titles
    assert "a reason says what the model used" in text.lower()


def test_text_from_the_capture_cannot_control_a_terminal(run: Run, named: Path) -> None:
    done = run("explain", named, "--format", "table")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout


def test_identify_adds_the_reason_to_its_records(run: Run, capture: Path, model: Path) -> None:
    plain = [json.loads(line) for line in run("identify", capture, "-m", model).stdout.splitlines()]
    done = run("identify", capture, "-m", model, "--explain")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(row.pop("reason").endswith(".") for row in rows)
    assert rows == plain
    table = run("identify", capture, "-m", model, "--explain", "--format", "table").stdout
    assert "rather than" in table


def test_reasons_have_no_place_in_other_forms(run: Run, capture: Path) -> None:
    done = run("identify", capture, "--explain", "--format", "eve")
    assert done.returncode == 2
    assert "the form eve has no field for reasons; use jsonl" in done.stderr
    assert run("identify", capture, "--explain", "--summary").returncode == 2
    assert run("explain", capture, "-o", "reasons.csv").returncode == 2


def test_similar_flows_of_the_training_set_are_shown_where_the_model_keeps_them(
    run: Run, capture: Path, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    from apptell.learning import train_model

    labels = [app for app in ("signal", "zoom") for _ in range(12)]
    keeping = tmp_path / "model"
    train_model(flow_batch(labels, seed=0), labels, model="paper-rf", out=keeping, keep_rows=True)
    asked = ("explain", capture, "-m", keeping, "--limit", 1, "--similar", 2)
    done = run(*asked, "--format", "table")
    assert done.returncode == 0, done.stderr
    assert "The 24 most similar of the 24 flows of the training set: 12 of " in done.stdout
    assert len(re.findall(r"^ +[01]\.\d{3}  signal, group \d", done.stdout, re.MULTILINE)) == 2
    page = tmp_path / "reasons.html"
    done = run(*asked, "-o", page)
    assert done.returncode == 0, done.stderr
    assert page.read_text().count("<h3>Similar flows of the training set</h3>") == 1
    done = run("explain", capture, "-m", model, "--similar", 2)
    assert (done.returncode, done.stdout) == (2, "")
    assert "keeps no flows of its training set" in done.stderr
    assert done.stderr.endswith("(apptell train --keep-rows)\n")
