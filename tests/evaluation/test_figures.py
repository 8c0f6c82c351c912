import json

import numpy as np
import pytest

from apptell.errors import DatasetError
from apptell.evaluation import evaluate_predictions, slices_of
from apptell.testing import app_messages, flow_batch

APPS = ["signal", "teams", "zoom"]
LABELS = ["signal", "signal", "teams", "teams", "zoom", "zoom"]
TABLE = np.array(
    [
        [0.90, 0.05, 0.05],  # right, accepted
        [0.50, 0.30, 0.20],  # right, declined
        [0.10, 0.86, 0.04],  # right, accepted
        [0.95, 0.03, 0.02],  # wrong, accepted
        [0.20, 0.30, 0.50],  # right, declined
        [0.20, 0.50, 0.30],  # wrong, declined
    ],
    np.float32,
)


def test_figures_over_all_flows_and_over_the_accepted_stand_beside_each_other() -> None:
    result = evaluate_predictions(LABELS, TABLE, APPS)
    assert result.threshold == 0.85
    assert result.scores.accuracy == pytest.approx(4 / 6)
    assert result.coverage == pytest.approx(3 / 6)
    assert result.at_threshold.accuracy == pytest.approx(2 / 3)
    assert result.at_threshold.precision.tolist() == [0.5, 1.0, 0.0]
    # zoom has flows, all of them declined: it counts as 0, it does not vanish.
    assert result.at_threshold.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_metrics_json_has_the_keys_that_others_read_and_is_plain() -> None:
    found = evaluate_predictions(
        LABELS, TABLE, APPS, 0.5, ["a", "b"] * 3, slices={"n": [1, 2] * 3}
    ).to_json()
    assert json.loads(json.dumps(found)) == found
    assert {"macro_f1", "accuracy", "coverage", "per_app", "confusion"} <= set(found)
    assert found["coverage"] == 1.0
    assert found["apps"] == APPS
    assert found["confusion"] == [[2, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert found["at_threshold"]["confusion"] == found["confusion"]
    assert found["per_app"]["teams"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "flows": 2}
    assert found["slices"]["n"]["1"] == {"accuracy": 1.0, "flows": 3}
    assert found["groups"] == 2


def test_app_coverage_is_the_mean_over_captures_of_apps_found() -> None:
    assert evaluate_predictions(LABELS, TABLE, APPS).app_coverage == pytest.approx(2 / 3)
    by_capture = evaluate_predictions(LABELS, TABLE, APPS, captures=[0, 1, 0, 1, 0, 1])
    # capture 0 has all three apps and finds signal and teams; capture 1 finds none of three.
    assert by_capture.app_coverage == pytest.approx((2 / 3 + 0) / 2)


def test_an_app_the_model_does_not_know_counts_as_wrong_and_is_named() -> None:
    result = evaluate_predictions(["viber", *LABELS[1:]], TABLE, APPS)
    assert result.unknown_apps == ("viber",)
    assert result.scores.apps == ("signal", "teams", "zoom", "viber")
    assert result.scores.accuracy == pytest.approx(3 / 6)
    assert result.scores.recall[3] == 0.0


def test_a_threshold_that_accepts_nothing_gives_zero_coverage() -> None:
    result = evaluate_predictions(LABELS, TABLE, APPS, threshold=1.0)
    assert (result.coverage, result.at_threshold.macro_f1, result.app_coverage) == (0.0, 0.0, 0.0)


def test_no_flows_and_other_lengths_are_refused() -> None:
    with pytest.raises(DatasetError, match="there are no flows with a label"):
        evaluate_predictions([], np.zeros((0, 3), np.float32), APPS)
    with pytest.raises(DatasetError, match=r"shape \(6, 3\) for 6 labels and 2 apps"):
        evaluate_predictions(LABELS, TABLE, APPS[:2])


def test_slices_tell_hello_from_mid_session_and_count_at_most_five_packets() -> None:
    said = [
        app_messages("zoom"),
        app_messages("zoom")[1:],
        [(False, b"SSH-2.0"), (True, b"SSH-2.0")],
        [],
    ]
    slices = slices_of(flow_batch(["zoom"] * 4, messages=said))
    assert slices["hello"].tolist() == ["hello", "mid-session", "none", "none"]
    assert slices["payload_packets"].tolist() == [5, 5, 2, 0]
    assert slices["client_by"].tolist() == ["handshake"] * 4


def test_flows_whose_client_rule_is_not_known_still_have_a_slice() -> None:
    flows = flow_batch(["zoom"]).with_columns(client_by=[None])
    assert slices_of(flows)["client_by"].tolist() == ["unknown"]
