import numpy as np
import pytest

from apptell.errors import DatasetError
from apptell.experiments.promise import promise_precision
from apptell.learning.task import Task
from apptell.testing import flow_batch

TREES = Task("paper-rf")


def recorded(n=120, sources=30):
    labels = ["signal" if i % 2 else "zoom" for i in range(n)]
    return flow_batch(labels, groups=[{"source": f"s{i % sources}"} for i in range(n)]), labels


def test_a_threshold_is_chosen_on_groups_held_out_of_the_training_flows():
    flows, labels = recorded()
    kept = promise_precision(flows, labels, TREES, 0.9, method="source", n_folds=3)
    assert (kept.n_flows, kept.n_groups) == (120, 30)
    assert kept.threshold is not None
    assert 0 < kept.threshold <= 1
    assert 0.05 <= kept.temperature <= 20


def test_too_few_groups_promise_nothing_and_one_cannot_be_held_out():
    flows, labels = recorded(sources=6)
    assert (
        promise_precision(flows, labels, TREES, 0.95, method="source", n_folds=3).threshold is None
    )
    alone, labels = recorded(sources=1)
    with pytest.raises(DatasetError, match="too few groups"):
        promise_precision(alone, labels, TREES, 0.9, method="source")


def test_labels_that_say_nothing_can_promise_nothing():
    flows, labels = recorded()
    mixed = np.random.default_rng(0).permutation(labels).tolist()
    assert promise_precision(flows, mixed, TREES, 0.9, method="source", n_folds=3).threshold is None


def test_of_several_precisions_the_first_that_can_be_promised_is_taken():
    flows, labels = recorded(sources=12)
    settings = {"method": "source", "n_folds": 3}
    kept = promise_precision(flows, labels, TREES, (0.99, 0.9, 0.5), **settings)
    assert (kept.precision, kept.threshold is None) == (0.9, False)
    none = promise_precision(flows, labels, TREES, (0.99, 0.98), **settings)
    assert (none.precision, none.threshold) == (0.99, None)
