"""Plots show the numbers of the results that they are given."""

from __future__ import annotations

import numpy as np
import pytest

import apptell
from apptell.encoding import images
from apptell.errors import UsageError
from apptell.evaluation import evaluate_predictions
from apptell.reports.png import paint
from apptell.testing import flow_batch
from tests.records.fakes import verdicts

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def evaluation() -> apptell.Evaluation:
    random = np.random.default_rng(0)
    labels = ["a", "b", "<b>"] * 20
    p = random.dirichlet([1, 1, 1], 60).astype(np.float32)
    return evaluate_predictions(labels, p, ["a", "b", "<b>"], 0.5)


def test_confusion_shows_shares_of_each_true_app(evaluation: apptell.Evaluation) -> None:
    axes = apptell.plot_confusion(evaluation)
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shown.sum(axis=1), 1)
    counts = sorted(int(text.get_text()) for text in axes.texts)
    assert counts == sorted(evaluation.scores.confusion[evaluation.scores.confusion > 0].tolist())


def test_reliability_and_coverage_show_their_points(evaluation: apptell.Evaluation) -> None:
    line = apptell.plot_reliability(evaluation).lines[1]
    assert list(line.get_ydata()) == [each["accuracy"] for each in evaluation.reliability]
    axes = apptell.plot_coverage(evaluation)
    points = evaluation.coverage_precision
    assert list(axes.lines[0].get_xdata()) == [each["coverage"] for each in points]
    assert axes.lines[1].get_xdata()[0] == pytest.approx(evaluation.coverage)


def test_sources_are_in_order_of_accuracy() -> None:
    axes = apptell.plot_sources([1, 0, 1, 1], ["x", "x", "y", "y"])
    assert axes.collections[0].get_offsets()[:, 0].tolist() == [0.5, 1.0]
    with pytest.raises(UsageError, match="2 flows are right or wrong, but there are 1 sources"):
        apptell.plot_sources([1, 0], ["x"])


def test_a_flow_image_is_that_of_the_model() -> None:
    flows = flow_batch(["a", "b"])
    shown = np.asarray(apptell.plot_flow_image(flows, 1).images[0].get_array())
    np.testing.assert_array_equal(shown, paint(images(flows)[1]))


def test_a_timeline_has_a_row_for_each_app_of_the_client() -> None:
    found = list(verdicts(0.99, 0.99, 0.5))
    axes = apptell.plot_timeline(found)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["signal", "?"]
    assert not apptell.plot_timeline(found, client="10.9.9.9").get_yticklabels()


def test_axes_of_the_caller_are_used(evaluation: apptell.Evaluation) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert apptell.plot_confusion(evaluation, axes) is axes


def test_an_evaluation_prints_its_table(evaluation: apptell.Evaluation) -> None:
    text = repr(evaluation)
    assert f"{evaluation.scores.accuracy:.3f} (95 % interval" in text
    assert text.splitlines()[-3].split()[:2] == ["a", "20"]
    page = evaluation._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
