"""A model from hand-made captures without labels, by the names in them: as a library and as a verb."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

import apptell
from apptell.cli.app import app
from apptell.errors import DatasetError
from apptell.testing import app_messages, conversation, write_pcap
from tests.verdicts.test_evidence_packets import PHONE, ROWS, SERVERS, TABLET, Capture, _hello

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 1_000_000_000


def _connection(capture: Capture, at: int, name: bytes, by: str) -> None:
    """A named connection of 16 messages; the later ones are the app's own."""
    kind = "signal" if b"chat" in name else "zoom"
    said = [(True, _hello(name)), *app_messages(kind, seed=at, n_messages=15)]
    capture.packets += [
        (time_ns + at * SECOND, frame)
        for time_ns, frame in conversation((by, 40_000 + at), (SERVERS[at % 2], 443), said)
    ]


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two captures of a phone and a tablet: 24 connections of two apps, two of a third, one without a name."""
    folder = tmp_path_factory.mktemp("captures")
    (folder / "rows.csv").write_text(ROWS, encoding="utf-8")
    for number, by in enumerate((PHONE, TABLET)):
        capture = Capture()
        for at in range(12):
            name = b"www.chat.example" if at % 2 else b"tube.example"
            _connection(capture, at, name, by)
        capture.connection(50, SERVERS[3], _hello("bücher.example".encode("idna")), by=by)
        write_pcap(folder / f"{number}.pcap", sorted(capture.packets, key=lambda each: each[0]))
    return folder


def test_a_model_learns_by_names_and_then_decides_flows_that_show_none(
    captures: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    learned = apptell.learn(
        sorted(captures.glob("*.pcap")),
        tmp_path / "model",
        dataset=tmp_path / "dataset",
        catalogue=[captures / "rows.csv"],
        least_flows=5,
        precision=0.5,
        notify=said.append,
    )
    assert learned.n_flows == {"tube": 12, "chat": 12}
    assert list(learned.left_out.values()) == [2]
    assert learned.label_sources == {"name": 26}
    assert learned.held_out == "session"
    info = learned.model.info
    assert info["learned"]["transports"] == ["tcp"]
    assert info["learned"]["names"] == "masked"
    assert info["data"]["late_views"] > 0
    assert info["data"]["name_labels_share"] == 1.0
    assert len(apptell.Dataset.open(tmp_path / "dataset")) == 26 + 24
    assert any("Left out" in sentence for sentence in said)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Labels: 100% by server names" in card
    assert "Late views among them: 24" in card
    # The remainders of other connections of these apps, which show no name.
    capture = Capture()
    for at, kind in enumerate(["signal", "zoom"] * 4):
        messages = app_messages(kind, seed=500 + at, n_messages=15)[5:]
        ends = (PHONE, 50_000 + at), (SERVERS[8], 443)
        capture.packets += [
            (time_ns + at * SECOND, frame)
            for time_ns, frame in conversation(*ends, messages, handshake=False)
        ]
    path = write_pcap(tmp_path / "rest.pcap", sorted(capture.packets, key=lambda each: each[0]))
    verdicts = list(apptell.identify(path, tmp_path / "model", threshold=0))
    right = {"signal": "chat", "zoom": "tube"}
    kinds = ["signal", "zoom"] * 4
    assert [verdict.app for verdict in sorted(verdicts, key=lambda each: each.start_ns)] == [
        right[kind] for kind in kinds
    ]
    assert {verdict.evidence for verdict in verdicts} == {"model"}


def test_too_few_flows_with_names_are_listed_in_one_error(captures: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no app has 50 or more\. Apps with fewer: .*chat 12"):
        apptell.learn(captures, tmp_path / "m", catalogue=[captures / "rows.csv"], least_flows=50)
    assert not (tmp_path / "m").exists()


def test_the_verb_says_what_was_learned(captures: Path, tmp_path: Path) -> None:
    words = ["learn", str(captures / "0.pcap"), "-o", str(tmp_path / "m"), "--least", "5"]
    done = CliRunner().invoke(app, [*words, "--catalogue", str(captures / "rows.csv")])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["apps"] == {"tube": 6, "chat": 6}
    assert found["held_out"] == "paper"
    assert found["threshold"] is None
    assert "optimistic" in done.stderr
    assert "cannot promise 95%" in done.stderr
