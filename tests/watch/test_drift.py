"""Planted drift raises an alarm, calm traffic raises none, and named flows come first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apptell.errors import CaptureError, UsageError
from apptell.learning import train_model
from apptell.models import load_model
from apptell.testing import app_capture, flow_batch, write_pcap
from apptell.verdicts import SCHEMA, identify_flows
from apptell.watch import Observations, measure_drift
from apptell.watch.observed_sources import observe

if TYPE_CHECKING:
    from pathlib import Path

APPS = ["briar", "matrix", "signal", "zoom"]
PRIOR = np.full(4, 0.25)
EXPECTED = {
    app: {"flows": 400.0, "disagreement": 0.03, "declined": 0.05, "unknown": 0.05, "recall": 0.95}
    for app in APPS
}
SECOND = 1_000_000_000


def seen_flows(wrong: dict[int, float], n: int = 300, seed: int = 0) -> Observations:
    """Flows of four phones with one app each; a share of each app's flows is taken for the next app."""
    random = np.random.default_rng(seed)
    truth = np.repeat(np.arange(4), n)
    is_wrong = random.random(len(truth)) < np.array([wrong.get(app, 0.02) for app in truth])
    guess = np.where(is_wrong, (truth + 1) % 4, truth)
    p = np.full((len(truth), 4), 0.05, np.float32)
    p[np.arange(len(truth)), truth] = 0.4  # what has changed is doubtful rather than clear
    p[np.arange(len(truth)), guess] = np.where(is_wrong, 0.5, 0.85)
    p[:, :] /= p.sum(axis=1, keepdims=True)
    return Observations.of_probabilities(
        p,
        truth.astype(str).astype(object),
        np.tile(np.arange(n) * SECOND, 4),
        threshold=0.4,
        p_unknown=np.full(len(truth), 0.5, np.float32),
        cutoff=0.95,
    )


def test_calm_traffic_raises_no_alarm() -> None:
    for seed in range(3):
        assert not measure_drift(seen_flows({}, seed=seed), APPS, PRIOR, EXPECTED).alarms


def test_an_app_whose_flows_are_taken_for_another_raises_an_alarm_and_comes_first() -> None:
    found = measure_drift(seen_flows({2: 0.3}), APPS, PRIOR, EXPECTED)
    assert [each.app for each in found.alarms] == ["signal"]
    assert found.apps[0].app == "signal"
    assert 0.2 < found.apps[0].rise < 0.35
    assert "disagree on" in found.apps[0].reason
    assert found.to_json()["alarms"] == ["signal"]


def test_few_flows_and_a_small_rise_raise_no_alarm() -> None:
    assert not measure_drift(seen_flows({2: 0.3}, n=60), APPS, PRIOR, EXPECTED).alarms
    assert not measure_drift(seen_flows({2: 0.06}), APPS, PRIOR, EXPECTED).alarms


def test_named_flows_that_the_model_gives_to_another_app_raise_the_first_alarm() -> None:
    seen = seen_flows({1: 0.3})
    named = np.full(len(seen), -1)
    named[-50:] = 3
    guess = seen.guess.copy()
    guess[-50:-20] = 0
    found = measure_drift(replace(seen, named=named, guess=guess), APPS, PRIOR, EXPECTED)
    assert [each.app for each in found.alarms] == ["zoom", "matrix"]
    assert found.apps[0].named == 50
    assert found.apps[0].named_right == pytest.approx(0.4, abs=0.05)
    assert found.apps[0].reason.endswith("of 50 named flows, 95% when held out")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("watched") / "model"
    labels = APPS * 30
    train_model(
        flow_batch(labels), labels, model="lengths-rf", out=path, hyperparameters={"n_trees": 5},
        unknown=True,
    )  # fmt: skip
    return path


def test_a_model_keeps_what_its_held_out_flows_had(folder: Path) -> None:
    held = load_model(folder).held_out
    assert sorted(held) == APPS
    for share in held.values():
        assert share["recall"] > 0.8
        assert share["disagreement"] < 0.2


def test_captures_and_records_of_the_same_flows_show_the_same(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    capture = write_pcap(tmp_path / "phone.pcap", app_capture(APPS, 3, seed=9))
    of_capture = observe([str(capture)], model)
    assert len(of_capture) == 12
    verdicts = identify_flows([flow_batch(APPS * 3)], model, unknown=0.05)
    table = pa.Table.from_batches([batch.to_arrow() for batch in verdicts])
    pq.write_table(table, tmp_path / "records.parquet")
    of_records = observe([str(tmp_path / "records.parquet")], model)
    assert len(of_records) == 12
    assert of_records.guess.tolist() == [0, 1, 2, 3] * 3
    np.testing.assert_allclose(of_records.probabilities.sum(axis=1), 1, atol=1e-5)
    with pytest.raises(UsageError, match="not both"):
        observe([str(capture), str(tmp_path / "records.parquet")], model)
    pq.write_table(pa.table({"app": ["zoom"]}), tmp_path / "other.parquet")
    with pytest.raises(CaptureError, match="not records of verdicts"):
        observe([str(tmp_path / "other.parquet")], model)


def test_flows_that_their_own_name_identifies_are_compared_with_the_model(folder: Path) -> None:
    from apptell.catalogue import Catalogue
    from apptell.verdicts import Evidence, EvidenceOptions
    from apptell.watch.observed_sources import identified

    flows = flow_batch(["zoom"] * 3).with_columns(
        server_name=["chat.signal.org", "nothing.example", None]
    )
    names = Evidence(Catalogue.load(), EvidenceOptions.parse("name"))
    ((verdicts, named),) = identified([flows], load_model(folder), names)
    seen = Observations.of_records([verdicts], APPS, [named])
    assert seen.named.tolist() == [2, -1, -1]
    assert seen.guess.tolist() == [3, 3, 3]


def records(wrong: float, n: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    found = []
    for number in range(4 * n):
        app = number // n
        guess = (app + 1) % 4 if app == 2 and random.random() < wrong else app
        found.append(
            {
                "start_ns": number % n * SECOND, "capture": "a", "client_address": f"10.0.0.{app}",
                "best_guess": APPS[guess], "confidence": 0.9 if guess == app else 0.5,
                "runner_up": APPS[guess - 1], "runner_up_confidence": 0.05 if guess == app else 0.4,
                "outcome": "named", "p_unknown": 0.5,
            }
        )  # fmt: skip
    return found


@pytest.mark.parametrize(("wrong", "code"), [(0.0, 0), (0.5, 1)])
def test_the_exit_code_says_whether_there_is_an_alarm(
    folder: Path, tmp_path: Path, wrong: float, code: int
) -> None:
    from typer.testing import CliRunner

    from apptell.cli.app import app

    pq.write_table(pa.Table.from_pylist(records(wrong, 150), schema=SCHEMA), tmp_path / "v.parquet")
    done = CliRunner().invoke(app, ["drift", str(tmp_path / "v.parquet"), "-m", str(folder)])
    assert done.exit_code == code, done.output
