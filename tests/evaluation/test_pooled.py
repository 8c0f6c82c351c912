import json

import numpy as np

from apptell.evaluation.pooled import PooledFolds, measure_pooled
from apptell.evaluation.providers import by_provider, provider_of, shares_a_provider
from apptell.testing import flow_batch


def test_teams_and_skype_are_one_provider_and_their_probabilities_add_up():
    probabilities = np.array([[0.4, 0.35, 0.25], [0.1, 0.2, 0.7]], dtype=np.float32)
    summed, providers = by_provider(probabilities, ("skype", "teams", "zoom"))
    assert providers == ("microsoft", "zoom")
    np.testing.assert_allclose(summed, [[0.75, 0.25], [0.3, 0.7]], rtol=1e-6)
    assert provider_of("zoom") == "zoom"
    assert not shares_a_provider(["teams", "zoom"])
    assert shares_a_provider(["teams", "skype"])


def said(labels, guesses, apps, confidence=0.9):
    probabilities = np.full((len(labels), len(apps)), (1 - confidence) / (len(apps) - 1))
    probabilities[np.arange(len(labels)), [apps.index(guess) for guess in guesses]] = confidence
    return probabilities.astype(np.float32)


def measured(labels, *guesses_by_seed, apps, held=()):
    n = len(labels)
    return measure_pooled(
        flow_batch(labels),
        labels,
        apps,
        [
            PooledFolds(seed, np.arange(n), np.arange(n) % 2, said(labels, guesses, apps), held)
            for seed, guesses in enumerate(guesses_by_seed)
        ],
        groups=np.array([f"g{i % 4}" for i in range(n)]),
    )


def test_a_verdict_that_mixes_up_one_provider_is_right_for_the_provider():
    found = measured(
        ["teams", "skype", "zoom", "zoom"],
        ["skype", "skype", "zoom", "teams"],
        apps=["skype", "teams", "zoom"],
    )
    assert found.result.scores.accuracy == 0.5
    assert found.by_provider.scores.accuracy == 0.75
    assert found.without_other is None


def test_without_other_background_is_left_out_of_the_test():
    found = measured(["a", "a", "other", "other"], ["a", "a", "a", "a"], apps=["a", "other"])
    assert found.result.scores.accuracy == 0.5
    assert found.without_other.scores.accuracy == 1.0
    assert found.without_other.scores.n_flows == 2


def test_the_hardest_confusions_come_with_flows_to_look_at():
    found = measured(["a", "a", "a", "b"], ["b", "b", "c", "b"], apps=["a", "b", "c"])
    assert [(c.true, c.given, c.flows) for c in found.hardest] == [("a", "b", 2), ("a", "c", 1)]
    assert found.hardest[1].examples == ("1:flow2",)


def test_seeds_are_pooled_and_stand_alone_beside():
    labels = ["a", "a", "b", "b"]
    found = measured(labels, labels, ["b", "b", "b", "b"], apps=["a", "b"])
    assert found.result.scores.n_flows == 8
    assert found.result.scores.accuracy == 0.75
    assert [(each["seed"], each["accuracy"]) for each in found.by_seed] == [(0, 1.0), (1, 0.5)]
    # an app that one seed finds in a capture is not found by the other
    assert found.result.app_coverage == 0.75
    (confusion,) = found.hardest
    assert (confusion.flows, len(confusion.examples)) == (2, 2)


def test_an_interval_draws_groups_with_the_verdicts_of_all_seeds():
    """Three equal seeds are no more evidence than one."""
    labels = ["a", "b"] * 8
    guesses = ["a", "a", "b", "b"] * 4
    once = measured(labels, guesses, apps=["a", "b"])
    thrice = measured(labels, guesses, guesses, guesses, apps=["a", "b"])
    assert thrice.result.intervals == once.result.intervals


def test_the_promise_is_made_on_held_out_flows_of_the_first_seed():
    labels = ["a", "b"] * 8
    assert measured(labels, labels, apps=["a", "b"]).promise is None
    rows = np.arange(8)
    held = ((rows, said(labels[:8], labels[:8], ["a", "b"])),) * 2
    kept = measured(labels, labels, apps=["a", "b"], held=held).promise
    assert len(kept.temperatures) == 2
    assert [rule.promised for rule in kept.rules] == [None, 0.90, 0.95, 0.99]
    assert (kept.rules[0].got, kept.rules[0].coverage) == (1.0, 1.0)


def test_figures_are_plain_json():
    labels = ["teams", "skype", "other"] * 4
    found = measured(labels, labels, apps=["other", "skype", "teams"])
    assert json.loads(json.dumps(found.to_json()))["by_seed"][0]["by_provider_accuracy"] == 1.0
