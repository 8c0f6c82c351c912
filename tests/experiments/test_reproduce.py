import numpy as np
import pytest

from apptell.encoding import images
from apptell.errors import DatasetError
from apptell.experiments import trial_cache
from apptell.experiments.reproduce import first_packets, reproduce_paper
from apptell.experiments.schedule import Schedule
from apptell.testing import flow_batch

LABELS = ["signal", "zoom", "other"] * 15
ONE = Schedule(1, (0,), "cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def found(cache):
    return reproduce_paper(flow_batch(LABELS), LABELS, ONE, cache=cache)


def test_section_4_is_run_with_and_without_other(found):
    assert found.flows == {"signal": 15, "zoom": 15}
    assert found.n_background == 15
    assert found.cnn[0].evaluation.scores.apps == ("signal", "zoom")
    assert found.forest[0].evaluation.scores.n_flows == found.cnn[0].evaluation.scores.n_flows == 6
    assert found.with_other[0].evaluation.scores.apps == ("other", "signal", "zoom")
    assert len(found.after) == 5
    assert found.after[-1] == found.cnn[0].evaluation.scores.accuracy
    assert len(found.claims) == 7


def test_it_resumes_from_what_was_trained(found, cache, monkeypatch):
    monkeypatch.setattr(trial_cache, "_learner", lambda *_: pytest.fail("trained again"))
    again = reproduce_paper(flow_batch(LABELS), LABELS, ONE, cache=cache)
    first, second = found.to_json(), again.to_json()
    for each in (first, second):
        assert all(limit > 0 for limit in each.pop("arithmetic_limits_flows_per_s"))
    assert first == second


def test_with_patience_the_network_trains_until_its_loss_no_longer_falls(tmp_path):
    labels = [label for label in LABELS if label != "other"]
    schedule = Schedule(30, (0,), "cpu", patience=1)
    found = reproduce_paper(flow_batch(labels), labels, schedule, cache=tmp_path)
    assert 1 < found.cnn[0].passes < 30
    assert found.forest[0].passes == 1
    assert schedule.words in found.sections[0].words


def test_the_first_packets_fill_the_first_rows_of_the_image_alone():
    flows = flow_batch(["signal", "zoom"])
    cut, whole = (images(some).reshape(2, -1) for some in (first_packets(flows, 2), flows))
    np.testing.assert_array_equal(cut[:, :3000], whole[:, :3000])
    assert not cut[:, 3000:].any()


def test_one_app_or_too_few_flows_are_told(tmp_path):
    for labels, message in ((["a"] * 6 + ["other"] * 6, "1 apps"), (["a"] * 6 + ["b"], "app b")):
        with pytest.raises(DatasetError, match=message):
            reproduce_paper(flow_batch(labels), labels, ONE, cache=tmp_path)
