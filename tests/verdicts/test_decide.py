import numpy as np
import pytest

from apptell.errors import ModelError
from apptell.testing import flow_batch
from apptell.verdicts import Verdict, decide

APPS = ["signal", "teams", "zoom"]


def _verdicts(rows: list[list[float]], threshold: float = 0.85) -> list[Verdict]:
    flows = flow_batch(["signal"] * len(rows))
    table = np.array(rows, np.float32).reshape(len(rows), len(APPS))
    return list(decide(flows, table, APPS, threshold, "m@1"))


def test_the_likeliest_app_is_named_and_the_second_is_the_runner_up() -> None:
    (verdict,) = _verdicts([[0.04, 0.9, 0.06]])
    assert (verdict.app, verdict.best_guess, verdict.outcome) == ("teams",) * 2 + ("named",)
    assert verdict.confidence == pytest.approx(0.9)
    assert verdict.runner_up == "zoom"
    assert verdict.runner_up_confidence == pytest.approx(0.06)


def test_below_the_threshold_the_app_is_null_and_the_best_guess_stays() -> None:
    (verdict,) = _verdicts([[0.1, 0.1, 0.8]])
    assert verdict.app is None
    assert verdict.best_guess == "zoom"
    assert verdict.outcome == "below threshold"


def test_a_confidence_equal_to_the_threshold_is_accepted() -> None:
    # 0.85 as float32 lies below 0.85 as float64: the comparison is between equals.
    (verdict,) = _verdicts([[0.85, 0.15, 0.0]], threshold=0.85)
    assert verdict.app == "signal"


def test_a_threshold_of_zero_declines_nothing_and_of_one_all_but_certainty() -> None:
    rows = [[0.4, 0.3, 0.3], [1.0, 0.0, 0.0]]
    assert [v.app for v in _verdicts(rows, 0.0)] == ["signal", "signal"]
    assert [v.app for v in _verdicts(rows, 1.0)] == [None, "signal"]


def test_equal_probabilities_go_to_the_first_app() -> None:
    (verdict,) = _verdicts([[0.4, 0.4, 0.2]], 0.0)
    assert (verdict.app, verdict.runner_up) == ("signal", "teams")


def test_the_last_bits_of_a_probability_break_no_tie_and_pass_no_threshold() -> None:
    above, below = 0.4 + 1e-7, 0.4 - 1e-7
    for row in ([above, below, 0.2], [below, above, 0.2]):
        (verdict,) = _verdicts([row], 0.4)
        assert (verdict.app, verdict.runner_up) == ("signal", "teams")


def test_the_flow_s_columns_reach_the_verdict() -> None:
    (verdict,) = _verdicts([[1.0, 0.0, 0.0]])
    assert verdict.community_id == "1:flow0"
    assert verdict.client_address == "192.168.1.2"
    assert verdict.server_port == 443
    assert verdict.payload_packets_seen == 5  # six were sent, a verdict rests on five
    assert verdict.label == "signal"
    assert verdict.model == "m@1"
    assert verdict.revised is False


def test_columns_that_were_not_read_become_null() -> None:
    flows = flow_batch(["zoom"])
    bare = flows.to_arrow().select(["payload_packets_to_server", "payload_packets_to_client"])
    verdicts = decide(type(flows)(bare), np.array([[0.0, 0.0, 1.0]], np.float32), APPS, 0.5, "m@1")
    (verdict,) = verdicts
    assert verdict.app == "zoom"
    assert verdict.community_id is None


def test_no_flows_give_no_verdicts() -> None:
    assert _verdicts([]) == []


def test_a_model_of_one_app_has_no_runner_up() -> None:
    (verdict,) = decide(flow_batch(["zoom"]), np.ones((1, 1), np.float32), ["zoom"], 0.5, "m@1")
    assert (verdict.app, verdict.runner_up) == ("zoom", None)


def test_probabilities_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ModelError, match=r"m@1: probabilities of shape \(1, 2\) for 1 flows and 3"):
        decide(flow_batch(["zoom"]), np.ones((1, 2), np.float32), APPS, 0.5, "m@1")


def test_a_probability_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ModelError, match="not a number"):
        _verdicts([[float("nan"), 0.0, 0.0]])


def test_a_part_of_a_batch_keeps_the_probabilities_of_its_verdicts() -> None:
    table = np.array([[0.1, 0.1, 0.8], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]], np.float32)
    batch = decide(flow_batch(["signal"] * 3), table, APPS, 0.85, "m@1")
    parts = {
        (0, 1, 2): batch.with_columns(app=batch.column("app")),
        (1, 2): batch[1:],
        (0, 2): batch.filter(np.array([True, False, True])),
    }
    for rows, part in parts.items():
        assert part.probabilities is not None
        np.testing.assert_allclose(part.probabilities, table[list(rows)])
