from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apptell.errors import CaptureError, ModelError, UsageError
from apptell.flows.schema import FlowBatch
from apptell.models import load_model
from apptell.testing import app_capture, app_messages, flow_batch, write_pcap
from apptell.verdicts import choose_threshold, identify, identify_flows


@dataclass
class SureModel:
    """Says its first app with the same confidence, whatever it sees."""

    threshold: float | None = None
    confidence: float = 0.86
    apps: list[str] = field(default_factory=lambda: ["signal", "zoom"])
    name: str = "sure"
    hash: str = "abc"
    decision_packets: int = 5
    transports: tuple[int, ...] = (6,)
    known_ja4: Any = None
    needs_whole_packets: bool = False
    info: dict[str, Any] = field(default_factory=dict)

    def predict_proba(self, flows: FlowBatch, *, early: bool = False) -> np.ndarray:
        row = [self.confidence, 1 - self.confidence]
        return np.tile(np.array(row, np.float32), (len(flows), 1))


def test_the_threshold_is_the_caller_s_else_the_model_s_else_the_paper_s() -> None:
    assert choose_threshold(0.5, SureModel(threshold=0.7)) == 0.5
    assert choose_threshold(0.0, SureModel(threshold=0.7)) == 0.0
    assert choose_threshold(None, SureModel(threshold=0.7)) == 0.7
    assert choose_threshold(None, SureModel(threshold=0.0)) == 0.0
    assert choose_threshold(None, SureModel()) == 0.85


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_a_threshold_outside_zero_to_one_is_refused(wrong: float) -> None:
    with pytest.raises(UsageError, match="is not between 0 and 1"):
        choose_threshold(wrong, SureModel())


def test_flows_with_fewer_than_two_payload_packets_are_passed_over() -> None:
    said = [app_messages("zoom", n_messages=n) for n in (1, 2, 6)] + [[]]
    flows = flow_batch(["zoom"] * 4, messages=said)
    (verdicts,) = identify_flows([flows], SureModel())
    assert [v.community_id for v in verdicts] == ["1:flow1", "1:flow2"]
    assert [v.payload_packets_seen for v in verdicts] == [2, 5]
    assert [v.threshold for v in verdicts] == [pytest.approx(0.85)] * 2
    assert [v.model for v in verdicts] == ["sure@abc"] * 2


def test_a_batch_without_such_flows_gives_no_batch() -> None:
    flows = flow_batch(["zoom"], messages=[[]])
    assert list(identify_flows([flows, flow_batch([])], SureModel())) == []


def test_verdicts_before_a_damage_come_out_before_its_error() -> None:
    def damaged() -> Iterator[FlowBatch]:
        yield flow_batch(["zoom"] * 3)
        raise CaptureError("a.pcap: cut at byte 99")

    verdicts = identify_flows(damaged(), SureModel())
    assert len(next(verdicts)) == 3
    with pytest.raises(CaptureError, match="cut at byte 99"):
        next(verdicts)


def test_identify_checks_its_arguments_at_the_call_and_not_at_the_first_verdict(
    tmp_path: Path,
) -> None:
    capture = write_pcap(tmp_path / "phone.pcap", app_capture(["signal"], 1))
    with pytest.raises(UsageError, match=r"threshold 2 is not between 0 and 1"):
        identify(capture, threshold=2)
    with pytest.raises(CaptureError, match=r"nothing\.pcap"):
        identify(tmp_path / "nothing.pcap")
    with pytest.raises(ModelError, match=r"no such model folder"):
        identify(capture, tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"no evidence 'luck'"):
        identify(capture, evidence="luck")
    with pytest.raises(UsageError, match=r"the evidence does not include it"):
        identify(capture, tmp_path / "model", evidence="name")


def test_a_model_that_is_given_is_asked_about_what_no_name_settles(tmp_path: Path) -> None:
    capture = write_pcap(tmp_path / "phone.pcap", app_capture(["signal"], 1))
    (alone,) = identify(capture)
    assert (alone.app, alone.best_guess) == (None, None)
    (both,) = identify(capture, load_model())
    assert both.best_guess is not None
