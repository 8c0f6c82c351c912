"""Versions promoted while packets arrive take over without a flow lost, and a challenger is compared."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from apptell.catalogue import Catalogue
from apptell.models import write_model
from apptell.models.model_shelf import ModelShelf
from apptell.records.values import event_rows
from apptell.service import LiveOptions, LivePipeline, QueuedOutput, ReplaySource
from apptell.service.metrics import Metrics
from apptell.service.model_follower import ModelFollower
from apptell.service.shadow import Shadow
from apptell.testing import app_capture, client_hello, conversation, flow_batch, write_pcap
from apptell.verdicts import Evidence, EvidenceOptions
from tests.models.tiny import info, network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Rows:
    """An output that keeps its records."""

    def __init__(self) -> None:
        self.extra: dict[str, int] = {}
        self.rows: list[dict[str, Any]] = []

    def write(self, batch: Any) -> None:
        self.rows += event_rows(batch)

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass


class Interrupted(ReplaySource):
    """A source that calls a function after every twenty packets."""

    between: Callable[[], None]

    def batches(self) -> Iterator[Any]:
        for batch in super().batches():
            for at in range(0, len(batch), 20):
                yield batch.slice(at, at + 20)
                self.between()


@pytest.fixture
def shelf(tmp_path: Path) -> ModelShelf:
    found = ModelShelf(tmp_path / "phones")
    for number in (1, 2):
        place = tmp_path / f"m{number}"
        apps = ["signal", "skype", "zoom"]
        write_model(place, network(), info(apps=apps, threshold=number / 10), "# card\n")
        found.add(place)
    found.promote("1")
    return found


def test_promotion_and_rollback_under_load_lose_no_flow(shelf: ModelShelf, tmp_path: Path) -> None:
    source = Interrupted(write_pcap(tmp_path / "many.pcap", app_capture(["signal", "zoom"], 60)))
    rows, metrics, said = Rows(), Metrics(), list[str]()
    options = LiveOptions(max_waiting=8, batch_flows=2)
    output = QueuedOutput("rows", rows, is_lossless=True)
    pipeline = LivePipeline([source], shelf.load("1"), [output], options, metrics)
    follower = ModelFollower(shelf, "1", pipeline, said.append, poll_s=3600)
    turn = iter(range(10_000))

    def between() -> None:
        number = next(turn)
        if number % 6 == 3:
            shelf.promote("2")
        elif number % 6 == 0 and shelf.current == "2":
            shelf.rollback()
        follower.look()

    source.between = between
    with follower:
        pipeline.run(threading.Event())
    verdicts = [row for row in rows.rows if row["event"] == "verdict"]
    assert len(verdicts) == len({row["community_id"] for row in verdicts}) == 120
    assert len([row for row in rows.rows if row["event"] == "end"]) == 120
    assert not any(row["outcome"] == "overloaded" for row in verdicts)
    names = {f"{model.name}@{model.hash}" for model in (shelf.load("1"), shelf.load("2"))}
    assert {row["model"] for row in verdicts} == names
    assert sum("The model is now" in each for each in said) >= 4


def test_a_version_that_cannot_be_loaded_leaves_the_model_and_is_reported_once(
    shelf: ModelShelf, tmp_path: Path
) -> None:
    source = ReplaySource(write_pcap(tmp_path / "few.pcap", app_capture(["signal"], 2)))
    pipeline = LivePipeline([source], shelf.load("1"), [], None, Metrics())
    said: list[str] = []
    (shelf.folder / "current").write_text("7\n")
    with ModelFollower(shelf, "1", pipeline, said.append, poll_s=3600) as follower:
        follower.look()
    assert len(said) == 1
    assert "no version '7'" in said[0]
    name = shelf.load("1")
    assert f'hash="{name.hash}"' in pipeline.metrics.text()


def test_a_challenger_is_compared_on_the_same_flows_and_decides_nothing(
    shelf: ModelShelf, tmp_path: Path
) -> None:
    packets = app_capture(["zoom"], 5)
    for flow in range(8):
        said = [
            (True, client_hello("chat.signal.org", seed=flow)),
            (False, bytes(300)),
            (True, bytes(99)),
        ]
        packets += conversation(
            ("192.168.1.9", 45_000 + flow), ("203.0.113.99", 443), said,
            start_ns=packets[-1][0] + 1_000_000_000,
        )  # fmt: skip
    source = ReplaySource(write_pcap(tmp_path / "named.pcap", packets))
    evidence = Evidence(Catalogue.load(), EvidenceOptions.parse("name,model"))
    rows, metrics, notes = Rows(), Metrics(), list[str]()
    options = LiveOptions(evidence=evidence)
    output = QueuedOutput("rows", rows, is_lossless=True)
    pipeline = LivePipeline([source], shelf.load("1"), [output], options, metrics)
    shelf.challenge("2")
    with ModelFollower(shelf, "1", pipeline, notes.append, poll_s=3600):
        shadow = metrics.shadow
        assert shadow is not None
        pipeline.run(threading.Event())
        shadow.close(60)  # however busy the machine is
    champion = shelf.load("1")
    assert {row["model"] for row in rows.rows if row["model"]} == {
        f"{champion.name}@{champion.hash}"
    }
    counts = shadow.counts
    assert counts.flows == counts.agreed == 13  # both have the same weights
    assert counts.named == 8
    assert counts.champion_right == counts.challenger_right
    assert counts.skipped == 0
    assert notes[-1].startswith("Challenger: same app on 13 of 13 flows; of 8 named flows")
    assert metrics.shadow is None


def test_the_counts_of_a_challenger_are_metrics(shelf: ModelShelf) -> None:
    shadow, metrics = Shadow(shelf.load("2")), Metrics()
    metrics.shadow = shadow
    flows = flow_batch(["zoom"] * 6)
    shadow.put(flows, ["zoom", "signal", None, "nobody", None, "zoom"], shelf.load("1"))
    shadow.close()
    text = metrics.text()
    assert 'apptell_shadow_flows_total{verdict="same"} 6' in text
    assert "apptell_shadow_named_total 3" in text
    assert f'apptell_challenger_info{{name="tiny",hash="{shadow.challenger.hash}"}} 1' in text
    right = shadow.counts.champion_right
    assert f'apptell_shadow_right_total{{model="champion"}} {right}' in text


def test_a_challenger_that_is_too_slow_skips_flows_and_delays_none(shelf: ModelShelf) -> None:
    shadow = Shadow(shelf.load("2"))
    shadow.close()  # nobody takes any more
    flows = flow_batch(["zoom"] * 2)
    for _ in range(100):
        shadow.put(flows, [None, None], shelf.load("1"))
    assert shadow.counts.skipped > 0
    assert shadow.counts.flows == 0
