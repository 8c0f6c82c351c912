from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from apptell.encoding import statistics
from apptell.errors import DatasetError, ModelError
from apptell.flows.schema import FlowBatch
from apptell.models import load_model, write_model
from apptell.models.temperature import calibrate
from apptell.verdicts.calibration import FLOOR
from tests.encoding.crafted import batch, random_flow
from tests.models.tiny import APPS, info, network, weights

FLOWS = batch([random_flow(np.random.default_rng(seed)) for seed in range(600)])


def save(tmp_path, onnx_bytes=None, **changes):
    write_model(
        tmp_path / "m",
        network() if onnx_bytes is None else onnx_bytes,
        info(**changes),
        "",
        replace=True,
    )
    return tmp_path / "m"


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_probabilities_are_those_of_the_same_function_in_numpy(tmp_path):
    model = load_model(save(tmp_path))
    found = model.predict_proba(FLOWS)  # several batches
    assert found.dtype == np.float32
    assert found.shape == (600, 3)
    expected = softmax(statistics(FLOWS).astype(float) @ weights())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_flow_has_the_same_probabilities_alone_and_among_others_to_the_last_bit():
    model = load_model()
    inputs = model.encode(FLOWS)[:40]
    alone = [model.predict_inputs(inputs[row : row + 1]) for row in range(40)]
    assert (np.concatenate(alone) == model.predict_inputs(inputs)).all()


def test_a_model_says_what_it_is(tmp_path):
    model = load_model(str(save(tmp_path, threshold=0.9)), threads=1)
    assert (model.name, model.apps, model.threshold) == ("tiny", APPS, 0.9)
    assert repr(model) == f"<Model tiny@{model.hash} of 3 apps>"
    assert load_model(save(tmp_path)).threshold is None


def test_the_hash_changes_with_what_a_verdict_depends_on_and_with_nothing_else(tmp_path):
    first = load_model(save(tmp_path)).hash
    assert len(first) == 8
    assert load_model(save(tmp_path, created="2030-01-01T00:00:00Z", seed=9)).hash == first
    assert load_model(save(tmp_path, threshold=0.5)).hash != first
    assert load_model(save(tmp_path, calibration={"temperature": 2.0})).hash != first


def test_options_reach_the_encoding(tmp_path):
    model = load_model(save(tmp_path, network(shape=(35,)), options={"ports": False}))
    assert model.encode(FLOWS).shape == (600, 35)
    changed = FLOWS.with_columns(server_port=np.full(600, 9, dtype=np.uint16))
    np.testing.assert_array_equal(model.predict_proba(changed), model.predict_proba(FLOWS))


def test_images_enter_as_bytes(tmp_path):
    model = load_model(save(tmp_path, network("image"), inputs="image"))
    np.testing.assert_allclose(model.predict_proba(FLOWS).sum(axis=1), 1, atol=1e-5)


def test_a_temperature_softens_and_keeps_the_order(tmp_path):
    plain = load_model(save(tmp_path)).predict_proba(FLOWS)
    soft = load_model(save(tmp_path, calibration={"temperature": 3.0})).predict_proba(FLOWS)
    scores = statistics(FLOWS).astype(float) @ weights()
    np.testing.assert_array_equal(soft.argmax(axis=1), plain.argmax(axis=1))
    clear = plain.min(axis=1) > 1e-6  # below, float32 has forgotten the score
    np.testing.assert_allclose(soft[clear], softmax(scores / 3)[clear], atol=1e-4)
    np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-6)


def test_thresholds_are_chosen_on_what_the_model_will_say(tmp_path):
    """A model folder softens as thresholds are chosen, also where a probability is as small as zero."""
    plain = load_model(save(tmp_path)).predict_proba(FLOWS)
    assert plain.min() < FLOOR
    for temperature in (0.5, 4.0, 15.0):
        about = {"temperature": temperature, "floor": FLOOR}
        soft = load_model(save(tmp_path, calibration=about)).predict_proba(FLOWS)
        np.testing.assert_array_equal(soft, calibrate(plain, temperature, FLOOR))


def test_early_each_number_of_packets_has_its_own_temperature(tmp_path):
    calibration = {"temperature": 2.0, "early": [9.0, 7.0, 5.0, 3.0]}
    model = load_model(save(tmp_path, calibration=calibration))
    seen = np.arange(600) % 4 + 1
    flows = FLOWS.with_columns(
        payload_packets_to_server=seen, payload_packets_to_client=np.zeros(600, dtype=np.int64)
    )
    scores = statistics(flows).astype(float) @ weights()
    early = model.predict_proba(flows, early=True)
    plain = load_model(save(tmp_path)).predict_proba(flows)
    clear = plain.min(axis=1) > 1e-6
    temperature = np.array(calibration["early"])[seen - 1][:, None]
    np.testing.assert_allclose(early[clear], softmax(scores / temperature)[clear], atol=1e-4)
    np.testing.assert_allclose(
        model.predict_proba(flows)[clear], softmax(scores / 2)[clear], atol=1e-4
    )


def test_no_flows_give_no_probabilities(tmp_path):
    assert load_model(save(tmp_path)).predict_proba(batch([])).shape == (0, 3)


def test_flows_without_the_columns_are_refused(tmp_path):
    flows = FlowBatch(FLOWS.to_arrow().select(["client_port"]))
    with pytest.raises(DatasetError, match="'sequence_length' is missing"):
        load_model(save(tmp_path)).predict_proba(flows)


@pytest.mark.parametrize(
    ("onnx_bytes", "changes", "message"),
    [
        (b"not a network", {}, "model.onnx does not load: "),
        (network()[:-40], {}, "model.onnx does not load: "),
        (None, {"inputs": "smell"}, "there are no inputs 'smell'"),
        (None, {"options": {"colour": 1}}, "the inputs 'statistics' have no option 'colour'"),
        (None, {"encoding": 7}, "made for version 7 of the inputs 'statistics', .* version 1$"),
        (network(shape=(12,)), {}, r"takes \[\['n', 12\]\], the inputs 'statistics' are \(n, 37\)"),
        (None, {"options": {"ports": False}}, r"the inputs 'statistics' are \(n, 35\)"),
        (network("image"), {"inputs": "sequence"}, r"the inputs 'sequence' are \(n, 32, 3\)"),
        (network("sequence", shape=(87, 87)), {"inputs": "image"}, r"takes tensor\(float\), not"),
        (network(n_apps=4), {}, "not probabilities of 3 apps"),
        (network(output="scores_"), {}, "not probabilities of 3 apps"),
    ],
)
def test_what_does_not_fit_is_said_at_loading(tmp_path, onnx_bytes, changes, message):
    path = save(tmp_path, onnx_bytes, **changes)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_running_a_model_imports_no_training_framework(tmp_path):
    path = save(tmp_path)
    code = (
        "import sys; from apptell.models import load_model; "
        f"load_model({str(path)!r}); "
        "print([m for m in ('torch', 'sklearn', 'matplotlib', 'onnx') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
