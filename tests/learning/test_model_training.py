from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from apptell.errors import DatasetError, OutputError, UsageError
from apptell.flows.schema import FlowBatch
from apptell.learning import train_model
from apptell.learning.registry import Recipe, TrainingOptions, recipe_of
from apptell.models import load_model
from tests.encoding.crafted import CraftedFlow, Packet, batch

APPS = ["alpha", "beta", "other"]


def labelled(n=60, seed=0):
    """Flows of three apps that differ in first size and in first bytes."""
    random = np.random.default_rng(seed)
    flows, labels = [], []
    for at in range(n):
        app = at % 3
        first = bytes([40 + 80 * app]) * (100 + 300 * app + int(random.integers(50)))
        packets = [Packet(True, first, 0), Packet(False, random.bytes(1400), 9000)]
        flows.append(CraftedFlow(packets, (int(random.integers(1024, 65535)), 443)))
        labels.append(APPS[app])
    return batch(flows), labels


def train(tmp_path, flows, labels, **settings):
    settings = {"model": "paper-rf", "epochs": 3, "device": "cpu", **settings}
    return train_model(flows, labels, out=tmp_path / "m", replace=True, **settings)


@pytest.mark.parametrize("name", ["paper-cnn", "paper-rf", "sequence"])
def test_a_trained_model_names_the_apps_of_flows_it_never_saw(tmp_path, name):
    model = train(tmp_path, *labelled(180), model=name, epochs=8)
    assert (model.name, model.apps) == (name, APPS)
    flows, labels = labelled(seed=1)
    found = [model.apps[best] for best in model.predict_proba(flows).argmax(axis=1)]
    assert found == labels


def test_the_folder_says_what_was_trained_on_what(tmp_path):
    flows, labels = labelled()
    extra = {"data": {"dataset": "abc"}, "metrics": {"macro_f1": 0.5}}
    train(tmp_path, flows, labels, ports=False, seed=7, threshold=0.9, extra_info=extra)
    info = json.loads((tmp_path / "m" / "model.json").read_text())
    assert info["options"] == {"ports": False}
    assert (info["seed"], info["threshold"], info["metrics"]) == (7, 0.9, {"macro_f1": 0.5})
    assert info["data"]["per_app"] == {"alpha": 20, "beta": 20, "other": 20}
    assert info["data"]["dataset"] == "abc"
    assert {"apptell", "scikit-learn"} <= set(info["versions"])
    assert info["training"]["trees"] == 100
    card = (tmp_path / "m" / "README.md").read_text()
    assert "It knows 3 apps and no others" in card
    assert "| macro\\_f1 | 0.5 |" in card


def test_the_same_seed_gives_the_same_file_and_the_data_its_hash(tmp_path):
    flows, labels = labelled()
    first, again = (train(tmp_path, flows, labels, seed=3).info for _ in range(2))
    other = train(tmp_path, flows, labels, seed=4).info
    changed = train(tmp_path, flows, [*labels[:-3], *labels[:-4:-1]], seed=3).info
    assert first["onnx_sha256"] == again["onnx_sha256"] != other["onnx_sha256"]
    assert first["data"] == again["data"] == other["data"]
    assert changed["data"]["hash"] != first["data"]["hash"]


@pytest.mark.parametrize("name", ["paper-cnn", "paper-rf", "sequence", "bytes-1d"])
def test_identification_differs_from_the_framework_by_less_than_1e_4(tmp_path, name):
    flows, labels = labelled()
    model = train(tmp_path, flows, labels, model=name, seed=5)
    learner = recipe_of(name).make(
        TrainingOptions(epochs=3, seed=5, device="cpu", hyperparameters=recipe_of(name).complete())
    )
    inputs = model.encode(flows)
    expected = learner.fit(inputs, labels).predict_proba(inputs)
    np.testing.assert_allclose(model.predict_proba(flows), expected, atol=1e-4)


def test_flows_of_lengths_alone_go_the_whole_way(tmp_path):
    flows, labels = labelled(180)
    lengths = ["sequence_length", "sequence_gap_us"]
    counts = ["payload_packets_to_server", "payload_packets_to_client"]
    columns = {name: flows.column(name) for name in [*lengths, *counts]}
    bare = FlowBatch.from_columns(columns)
    assert bare.column("segment_length").null_count == len(bare)
    model = train(tmp_path, bare, labels, model="sequence", packets=10)
    assert model.decision_packets == 10
    assert model.info["options"] == {"packets": 10}
    found = [model.apps[best] for best in model.predict_proba(bare).argmax(axis=1)]
    assert found == labels
    assert model.prior.tolist() == pytest.approx([1 / 3] * 3)


def test_the_folder_says_which_payload_and_names_a_model_learned_from(tmp_path):
    flows, labels = labelled()
    kept = flows.column("segment_bytes").to_pylist()
    cut = pa.array([[data[:40] for data in each] for each in kept], pa.list_(pa.binary()))
    for batch_, share in ((flows, 0.0), (flows.with_columns(segment_bytes=cut), 1.0)):
        model = train(tmp_path, batch_, labels, model="fast")
        assert model.cut_share == model.info["learned"]["cut_share"] == share
        assert model.transports == (6,)
    assert train(tmp_path, flows, labels).cut_share is None


def test_without_ports_no_verdict_depends_on_them(tmp_path):
    flows, labels = labelled()
    model = train(tmp_path, flows, labels, ports=False)
    moved = flows.with_columns(server_port=np.arange(60, dtype=np.uint16))
    np.testing.assert_array_equal(model.predict_proba(moved), model.predict_proba(flows))


def test_flows_with_one_payload_packet_teach_nothing(tmp_path):
    flows, labels = labelled()
    short = batch([CraftedFlow([Packet(True, b"x", 0)]) for _ in range(9)])
    both = type(flows).concat([flows, short])
    model = train(tmp_path, both, [*labels, *["fourth"] * 9])
    assert model.apps == APPS
    assert model.info["data"]["flows"] == 60


def test_upper_case_labels_become_lower_case(tmp_path):
    flows, labels = labelled()
    assert train(tmp_path, flows, [label.title() for label in labels]).apps == APPS


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["alpha"] * 60, r"^there is only one app, alpha; a model needs at least two$"),
        (["alpha"] * 56 + ["beta"] * 4, r"^app beta has 4 flows; at least 5 are needed$"),
        (["alpha"] * 59, r"^there are 59 labels for 60 flows$"),
    ],
)
def test_too_little_to_learn_from_is_said(tmp_path, labels, message):
    with pytest.raises(DatasetError, match=message):
        train(tmp_path, labelled()[0], labels)
    assert not (tmp_path / "m").exists()


def test_no_flows_at_all_are_said(tmp_path):
    with pytest.raises(DatasetError, match="no labelled flow has two payload packets"):
        train(tmp_path, batch([]), [])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "gpt"}, "unknown model 'gpt'"),
        ({"threshold": 85}, "threshold is 85, not between 0 and 1"),
        ({"epochs": 0}, "epochs is 0, not 1 or more"),
        ({"extra_info": {"apps": []}}, "extra_info has 'apps'; it may have data, "),
    ],
)
def test_wrong_settings_are_said(tmp_path, settings, message):
    with pytest.raises(UsageError, match=message):
        train(tmp_path, *labelled(), **settings)


def test_a_place_that_cannot_be_written_is_said_before_training(tmp_path):
    (tmp_path / "m").write_text("a file of mine")
    with pytest.raises(OutputError, match="m: not a folder"):
        train(tmp_path, *labelled())


def test_interrupting_leaves_the_best_model_so_far(tmp_path, monkeypatch):
    monkeypatch.setattr("apptell.learning.network_training.REPORT_S", 0)

    def stop(progress):
        if progress.done > 0.5:
            raise KeyboardInterrupt

    model = train(tmp_path, *labelled(), model="paper-cnn", epochs=4, progress=stop)
    assert model.info["training"] | {"interrupted": True, "epochs": 2} == model.info["training"]
    assert load_model(tmp_path / "m").hash == model.hash


def test_a_missing_library_is_said_with_the_command_that_brings_it(tmp_path, monkeypatch):
    def absent(_settings):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    recipe = Recipe("paper-cnn", "image", "", absent, dict)
    for module in ("model_training", "task"):
        monkeypatch.setattr(f"apptell.learning.{module}.recipe_of", lambda _name: recipe)
    with pytest.raises(Exception, match=r"needs torch, .*: pip install 'apptell\[train\]'$"):
        train(tmp_path, *labelled())
