import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from sklearn.metrics import confusion_matrix as sk_confusion

from apptell.evaluation import confusion_matrix, paper, score

APPS = ["discord", "signal", "teams", "zoom"]


def _random(n: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(seed)
    truth = noise.integers(0, 4, n)
    return truth, np.where(noise.random(n) < 0.7, truth, noise.integers(0, 4, n))


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(5))
def test_every_figure_is_scikit_learn_s(seed: int) -> None:
    truth, guess = _random(seed=seed)
    scores = score(confusion_matrix(truth, guess, 4), APPS)
    precision, recall, f1, _ = precision_recall_fscore_support(truth, guess, zero_division=0)
    np.testing.assert_array_equal(scores.confusion, sk_confusion(truth, guess))
    np.testing.assert_allclose(scores.precision, precision)
    np.testing.assert_allclose(scores.recall, recall)
    np.testing.assert_allclose(scores.f1, f1)
    assert scores.accuracy == pytest.approx(accuracy_score(truth, guess))
    assert scores.macro_f1 == pytest.approx(f1.mean())
    assert scores.macro_precision == pytest.approx(precision.mean())
    assert scores.macro_recall == pytest.approx(recall.mean())


def test_an_app_never_named_has_zeros_and_counts_in_the_means() -> None:
    scores = score(np.array([[4, 0], [2, 0]]), ["a", "b"])
    assert scores.precision.tolist() == [pytest.approx(4 / 6), 0.0]
    assert scores.recall.tolist() == [1.0, 0.0]
    assert scores.macro_recall == 0.5


def test_an_app_without_flows_does_not_count_in_the_means() -> None:
    scores = score(np.array([[4, 0], [0, 0]]), ["a", "b"])
    assert scores.macro_f1 == 1.0
    assert scores.to_json()["per_app"]["b"] == {"precision": 0, "recall": 0, "f1": 0, "flows": 0}


def test_no_flows_at_all_give_zeros_not_errors() -> None:
    scores = score(np.zeros((2, 2), np.int64), ["a", "b"])
    assert (scores.accuracy, scores.macro_f1, scores.n_flows) == (0.0, 0.0, 0)


@pytest.mark.parametrize(
    ("table", "per_app", "accuracy"),
    [
        (paper.TABLE_6_CNN, paper.TABLE_4_CNN, paper.CNN_ACCURACY),
        (paper.TABLE_6_FOREST, paper.TABLE_5_FOREST, paper.FOREST_ACCURACY),
    ],
)
def test_the_paper_s_confusions_give_the_paper_s_figures(
    table: tuple, per_app: dict, accuracy: float
) -> None:
    scores = score(np.array(table), paper.APPS)
    assert scores.accuracy == pytest.approx(accuracy, abs=2e-3)
    for i, app in enumerate(paper.APPS):
        ours = (scores.precision[i], scores.recall[i], scores.f1[i])
        assert ours == pytest.approx(per_app[app], abs=2e-3)
    means = (scores.macro_precision, scores.macro_recall, scores.macro_f1)
    assert means == pytest.approx(per_app["mean"], abs=1e-3)


def test_the_paper_s_table_6_holds_8897_flows_not_a_fifth_of_table_1() -> None:
    assert np.array(paper.TABLE_6_CNN).sum() == np.array(paper.TABLE_6_FOREST).sum() == 8_897
    assert sum(paper.TABLE_1_FLOWS.values()) == 44_853
