"""Models of strangers: whatever they compute, they cannot stop, exhaust or mislead the process."""

from __future__ import annotations

import json
import math
import os
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from apptell.errors import ModelError
from apptell.models import end_runs_by, load_model, session, write_model
from apptell.testing import flow_batch
from tests.models.tiny import info, network

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
SHAPE = ["n", 37]


def model_of(nodes, initializers):
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["plain"], axis=1),
            *nodes,
        ],
        "hostile",
        [helper.make_tensor_value_info("x", FLOAT, SHAPE)],
        [helper.make_tensor_value_info("probabilities", FLOAT, ["n", 3])],
        [helper.make_tensor("w", FLOAT, [37, 3], np.zeros(111)), *initializers],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def scaled(factor):
    tensor = helper.make_tensor("factor", FLOAT, [1], [factor])
    return model_of([helper.make_node("Mul", ["plain", "factor"], ["probabilities"])], [tensor])


def endless():
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["v"], ["v2"])],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go", BOOL, []),
            helper.make_tensor_value_info("v", FLOAT, ["n", 3]),
        ],
        [
            helper.make_tensor_value_info("on", BOOL, []),
            helper.make_tensor_value_info("v2", FLOAT, ["n", 3]),
        ],
    )
    loop = helper.make_node("Loop", ["", "true", "plain"], ["probabilities"], body=body)
    return model_of([loop], [helper.make_tensor("true", BOOL, [], [True])])


def greedy():
    fill = helper.make_tensor("value", FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["large"], value=fill),
        helper.make_node("ReduceMean", ["large"], ["one"], keepdims=0),
        helper.make_node("Mul", ["plain", "one"], ["probabilities"]),
    ]
    return model_of(nodes, [helper.make_tensor("size", INT64, [1], [1 << 31])])


def saved(tmp_path, onnx_bytes, **changes):
    write_model(tmp_path / "m", onnx_bytes, info(**changes), "", replace=True)
    return tmp_path / "m"


@pytest.mark.parametrize("factor", [np.nan, np.inf, -1.0, 10.0])
def test_values_that_are_not_probabilities_are_refused_when_the_model_is_loaded(tmp_path, factor):
    with pytest.raises(ModelError, match="not probabilities"):
        load_model(saved(tmp_path, scaled(factor)))


@pytest.fixture
def unread(monkeypatch):
    """Models are run without having been read for what they use: the second line of defence alone."""
    monkeypatch.setattr(session, "check_graph", lambda *_: None)


def test_a_loop_that_never_ends_is_ended(tmp_path, monkeypatch, unread):
    monkeypatch.setattr(session, "RUN_LIMIT_S", 0.3)
    begun = time.monotonic()
    with pytest.raises(ModelError, match=r"took longer than 0\.3 s"):
        load_model(saved(tmp_path, endless()))
    assert time.monotonic() - begun >= 0.3


def test_the_end_of_the_program_ends_every_run(tmp_path, monkeypatch, unread):
    monkeypatch.setattr(session._WATCHDOG, "_end_s", math.inf)  # set back behind this test
    end_runs_by(time.monotonic() + 0.3)
    with pytest.raises(ModelError, match="ended with the program"):
        load_model(saved(tmp_path, endless()))


def test_a_tensor_of_eight_gibibytes_is_refused_without_taking_the_memory(tmp_path, unread):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=r"cannot be run|does not load"):
        load_model(saved(tmp_path, greedy()))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB


def test_a_good_model_runs_after_hostile_ones(tmp_path, unread):
    with pytest.raises(ModelError):
        load_model(saved(tmp_path, greedy()))
    assert load_model(saved(tmp_path, network())).apps == ["alpha", "beta", "gamma"]


@pytest.mark.parametrize("name", ["model.json", "model.onnx"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_regular_files_are_read(tmp_path, name, kind):
    folder = saved(tmp_path, network())
    place = folder / name
    aside = tmp_path / "aside"
    place.rename(aside)
    {
        "link": lambda: place.symlink_to(aside),
        "pipe": lambda: os.mkfifo(place),
        "folder": place.mkdir,
    }[kind]()
    with pytest.raises(ModelError, match=r"regular file|cannot be read"):
        load_model(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deeply|not valid JSON"),
        ('{"format": NaN}', "not a number of JSON"),
        ('{"format": ' + "9" * 10_000 + "}", "not valid JSON"),
        ("\ud800".encode("utf-8", "surrogatepass"), "not valid JSON"),
    ],
)
def test_json_that_is_made_to_break_a_parser_gets_one_line(tmp_path, text, said):
    folder = saved(tmp_path, network())
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "model.json").write_bytes(data)
    with pytest.raises(ModelError, match=said):
        load_model(folder)


def test_a_file_that_is_larger_than_any_model_is_not_read(tmp_path):
    folder = saved(tmp_path, network())
    with (folder / "model.onnx").open("r+b") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(ModelError, match="at most"):
        load_model(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"prior": {"alpha": "many"}},
        {"prior": {"alpha": 0}},
        {"prior": []},
        {"prior": {"delta": 1}},
        {"prior": {"alpha": 1e308, "beta": 1e308}},
        {"name": "half \ud83d a character"},
        {"calibration": {"temperature": 1e-320}},
        {"calibration": {"temperature": 2, "floor": None}},
        {"calibration": {"temperature": 2, "floor": 1e-320}},
        {"data": {"per_app": {"alpha": -1}}},
        {"options": {"ports": "yes"}},
        {"learned": {"transports": [["tcp"]]}},
        {"calibration": {"temperature": True, "floor": "low"}},
        {"apps": ["a" * 300, "b"]},
    ],
)
def test_every_wrong_type_in_model_json_gets_one_line(tmp_path, changes):
    folder = saved(tmp_path, network())
    content = json.loads((folder / "model.json").read_text()) | changes
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelError):
        load_model(folder)


def test_what_may_be_null_in_model_json_is_as_if_it_were_absent(tmp_path):
    calibration = {"temperature": 2, "early": None}
    data = {"hash": "0", "flows": 0, "per_app": None}
    model = load_model(saved(tmp_path, network(), calibration=calibration, prior=None, data=data))
    assert model.prior.tolist() == [pytest.approx(1 / 3)] * 3
    assert model.predict_proba(flow_batch(["chat"]), early=True).shape == (1, 3)


@pytest.mark.parametrize(
    ("name", "times"), [(b"scores", 1), (b"probabilities", 9), (b"x", 9), (b"n", 9)]
)
def test_a_name_of_the_model_that_is_not_utf_8_is_one_line_and_nothing_on_standard_output(
    tmp_path, capsys, name, times
):
    whole = len(name).to_bytes(1, "big") + name
    damaged = network().replace(whole, whole[:-1] + b"\xff", times)
    with pytest.raises(ModelError, match="does not load"):
        load_model(saved(tmp_path, damaged))
    assert capsys.readouterr().out == ""


def test_the_hostile_graphs_are_valid_onnx():
    for graph in (scaled(1.0), endless(), greedy()):
        onnx.checker.check_model(graph)
