from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from apptell.encoding.structure import N_TOKENS
from apptell.learning.token_batch import make_token_batch, matrix
from apptell.learning.token_models import TokenFusion, TokenLinear

# Tokens 100 + app tell the app; 200 + network tell where a flow came from; the rest is noise.
APPS = np.array(["alpha", "beta", "gamma"])


def flows(n: int, seed: int = 0, views: int = 1, n_networks: int = 4):
    random = np.random.default_rng(seed)
    target, network = random.integers(0, 3, n), random.integers(0, n_networks, n)
    X = np.zeros((n, views, N_TOKENS), dtype=np.uint16)
    for row in range(n):
        noise = random.choice(np.arange(1000, 1200), 20, replace=False)
        X[row, :, :22] = [100 + target[row], 200 + network[row], *noise]
    X[:, 1:, 0] = 7  # other views lack what tells the app
    return X if views > 1 else X[:, 0], APPS[target], network


@pytest.fixture(params=["linear", "fusion"])
def model(request):
    return TokenLinear() if request.param == "linear" else TokenFusion(epochs=8)


def test_it_learns_what_tells_the_app(model):
    X, y, groups = flows(400)
    tested, truth, _ = flows(200, seed=1)
    model.fit(X, y, groups=groups)
    assert (model.predict(tested) == truth).mean() > 0.95
    np.testing.assert_allclose(model.predict_proba(tested).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("n_apps", [2, 3])
def test_onnx_gives_the_same_probabilities(model, n_apps):
    X, y, _ = flows(300)
    keep = np.isin(y, APPS[:n_apps])
    model.fit(X[keep], y[keep])
    session = onnxruntime.InferenceSession(model.to_onnx(), providers=["CPUExecutionProvider"])
    tested = flows(50, seed=2)[0]
    tested[0] = 0  # a flow without tokens
    found = session.run(["probabilities"], {"inputs": tested})[0]
    assert found.std() > 0.1
    np.testing.assert_allclose(found, model.predict_proba(tested), atol=1e-4)


def test_the_same_seed_gives_the_same_model(model):
    X, y, groups = flows(200, views=3)
    again = type(model)(**model.get_params())
    one = model.fit(X, y, groups=groups).predict_proba(X)
    np.testing.assert_array_equal(one, again.fit(X, y, groups=groups).predict_proba(X))


def test_only_the_first_view_is_named(model):
    X, y, _ = flows(200, views=3)
    model.fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), model.predict_proba(X[:, 0]))


def test_one_app_is_refused(model):
    X, _, _ = flows(20)
    with pytest.raises(ValueError, match=r"^y has only one class, alpha; at least two are needed$"):
        model.fit(X, np.full(20, "alpha"))


def test_a_busy_network_weighs_no_more_than_a_quiet_one():
    X = np.zeros((103, N_TOKENS), dtype=np.uint16)
    X[:, 0] = 5
    target = np.zeros(103, dtype=np.int64)
    target[100:] = 1
    groups = np.array(["busy"] * 97 + ["quiet"] * 3 + ["busy"] * 3)
    made = make_token_batch(X, target, groups, 0)
    sums = [made.weight[:97].sum(), made.weight[97:100].sum(), made.weight[100:].sum()]
    assert sums[0] == pytest.approx(sums[1])
    assert sums[0] + sums[1] == pytest.approx(sums[2])


def test_views_without_tokens_are_passed_over_and_rare_tokens_unknown():
    X = np.zeros((4, 2, N_TOKENS), dtype=np.uint16)
    X[:, 0, 0] = 9
    X[0, 0, 1] = 77
    made = make_token_batch(X, np.array([0, 0, 1, 1]), None, 0)
    assert len(made.tokens) == 4
    assert made.vocabulary[9] == 1
    assert made.vocabulary[77] == 0
    assert made.n_known == 1


def test_rows_have_length_one():
    X, y, _ = flows(30)
    made = make_token_batch(X, np.unique(y, return_inverse=True)[1], None, 0)
    rows = matrix(X, made.vocabulary)
    np.testing.assert_allclose(rows.multiply(rows).sum(axis=1), 1, rtol=1e-5)


def test_interrupted_after_an_epoch_it_keeps_what_it_has():
    def interrupt(state):
        if state.epoch > 1:
            raise KeyboardInterrupt

    X, y, _ = flows(20_000)
    model = TokenFusion(epochs=50, progress=interrupt).fit(X, y)
    assert model.history_.interrupted
    assert len(model.history_.rows) < 50
    assert (model.predict(X[:100]) == y[:100]).mean() > 0.9
