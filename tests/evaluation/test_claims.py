import numpy as np

from apptell.evaluation import evaluate_predictions
from apptell.evaluation.claims import claims_of

APPS = ("a", "b")


def evaluated(right, confidence):
    """A model's evaluation from whether it was right, and how sure, on as many flows of a and b."""
    right, confidence = np.array(right), np.array(confidence, dtype=np.float32)
    truth = np.arange(len(right)) % 2
    guess = np.where(right, truth, 1 - truth)
    probabilities = np.empty((len(right), 2), dtype=np.float32)
    probabilities[np.arange(len(right)), guess] = confidence
    probabilities[np.arange(len(right)), 1 - guess] = 1 - confidence
    return evaluate_predictions([APPS[i] for i in truth], probabilities, APPS)


GOOD = evaluated([True] * 98 + [False] * 2, [0.99] * 98 + [0.6] * 2)
POOR = evaluated([True] * 80 + [False] * 20, [0.7] * 80 + [0.95] * 20)


def held(*given):
    return [claim.holds for claim in claims_of(*given)]


def test_what_the_paper_says_holds_of_a_model_as_it_describes_it():
    assert held([GOOD], [POOR], []) == [True] * 6
    assert held([GOOD], [POOR], [POOR]) == [True] * 7


def test_what_it_says_fails_where_it_fails():
    assert held([POOR], [GOOD], []) == [False] * 6
    assert not held([GOOD], [POOR], [GOOD])[-1]  # Other costs nothing here


def test_a_claim_that_one_seed_breaks_does_not_hold():
    assert not any(held([GOOD, POOR], [POOR, GOOD], [])[:2])


def test_what_is_not_higher_is_named():
    third = claims_of([POOR], [GOOD], [])[2]
    assert (
        third.found
        == "not higher: a's precision, b's precision, a's recall, b's recall, a's F, b's F"
    )


def test_a_model_that_is_never_wrong_is_no_fault():
    perfect = evaluated([True] * 10, [0.99] * 10)
    claim = claims_of([perfect], [POOR], [])[4]
    assert (claim.holds, claim.found) == (True, "no verdict was wrong")
