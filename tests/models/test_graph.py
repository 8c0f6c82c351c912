"""Models that a few bytes make slow or large to load or run are refused before anything is built from them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from apptell.errors import ModelError
from apptell.models import graph, load_model, session
from apptell.models.graph import MOST_NODES, check_graph
from tests.models.test_session import BOOL, FLOAT, INT64, endless, greedy, model_of, saved
from tests.models.tiny import network


def last(*inputs, kind="Identity", **attributes):
    return helper.make_node(kind, list(inputs), ["probabilities"], **attributes)


def zeros(name, *shape, kind=FLOAT):
    return helper.make_tensor(name, kind, shape, np.zeros(shape))


def changed(change, *nodes, tensors=()):
    model = onnx.load_from_string(model_of(nodes or [last("plain")], tensors))
    change(model)
    return model.SerializeToString()


def folded(side=4000):
    """Twenty products of large constant matrices, which an optimizer computes while it loads."""
    fill = helper.make_node("ConstantOfShape", ["size"], ["a0"])
    products = [helper.make_node("MatMul", [f"a{i}"] * 2, [f"a{i + 1}"]) for i in range(20)]
    mean = helper.make_node("ReduceMean", ["a20"], ["one"], keepdims=0)
    size = helper.make_tensor("size", INT64, [2], [side, side])
    return model_of([fill, *products, mean, last("plain", "one", kind="Mul")], [size])


def functions():
    """Each of 26 functions calls the next one twice."""

    def add(model):
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
        for number in range(26):
            calls = [
                helper.make_node(f"F{number + 1}", [source], [target], domain="f")
                for source, target in (("a", "b"), ("b", "c"))
            ]
            function = helper.make_function("f", f"F{number}", ["a"], ["c"], calls, opsets)
            model.functions.append(function)
        model.opset_import.append(helper.make_opsetid("f", 1))

    return changed(add, last("plain", kind="F0", domain="f"))


def unused_functions():
    opsets = [helper.make_opsetid("", 17)]
    body = [helper.make_node("Relu", ["a"], ["b"])]
    function = helper.make_function("f", "F", ["a"], ["b"], body, opsets)
    return changed(lambda model: model.functions.append(function))


def nested():
    inner = helper.make_graph(
        [helper.make_node("Identity", ["plain"], ["o"])], "b", [],
        [helper.make_tensor_value_info("o", FLOAT, ["n", 3])],
    )  # fmt: skip
    node = last("yes", kind="If", then_branch=inner, else_branch=inner)
    return model_of([node], [helper.make_tensor("yes", BOOL, [], [True])])


def hidden_graph():
    """An operator that is allowed, with a graph that it does not ask for."""
    inner = helper.make_graph([], "b", [], [])
    return model_of([last("plain", more=inner)], [])


def sparse():
    values, at = zeros("big", 1), helper.make_tensor("at", INT64, [1], [0])
    tensor = helper.make_sparse_tensor(values, at, [1 << 33])
    return changed(lambda model: model.graph.sparse_initializer.append(tensor))


def sparse_constant():
    values, at = zeros("big", 1), helper.make_tensor("at", INT64, [1], [0])
    tensor = helper.make_sparse_tensor(values, at, [1 << 33])
    fill = helper.make_node("Constant", [], ["c"], sparse_value=tensor)
    return model_of([fill, last("plain")], [])


def external():
    tensor = helper.make_tensor("e", FLOAT, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "/etc/passwd"), ("offset", "0"), ("length", "4")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return model_of([last("plain", "e", kind="Mul")], [tensor])


def shaped(*dims):
    tensor = helper.make_tensor("e", FLOAT, [1], [1.0])
    del tensor.dims[:]
    tensor.dims.extend(dims)
    return model_of([last("plain", "e", kind="Mul")], [tensor])


def convolution(*shape):
    nodes = [
        helper.make_node("Unsqueeze", ["plain", "axis"], ["p"]),
        helper.make_node("Conv", ["p", "k"], ["c"]),
        last("c", kind="Flatten"),
    ]
    return model_of(nodes, [helper.make_tensor("axis", INT64, [1], [1]), zeros("k", *shape)])


def computed_convolution():
    nodes = [
        helper.make_node("Unsqueeze", ["plain", "axis"], ["p"]),
        helper.make_node("Conv", ["p", "p"], ["c"]),
        last("c", kind="Flatten"),
    ]
    return model_of(nodes, [helper.make_tensor("axis", INT64, [1], [1])])


def pool(*window, floats=()):
    node = helper.make_node("MaxPool", ["plain"], ["q"], kernel_shape=window)
    node.attribute[0].floats.extend(floats)
    return model_of([node, last("q")], [])


def chain(n):
    nodes = [helper.make_node("Relu", [f"r{i}" if i else "plain"], [f"r{i + 1}"]) for i in range(n)]
    return model_of([*nodes, last(f"r{n}")], [])


def strings():
    names = TensorProto(name="s", data_type=TensorProto.STRING, dims=[2000])
    names.string_data.extend([b""] * 2000)
    return model_of([last("plain")], [names])


HOSTILE = {
    "graph within a graph  ": endless,
    "operator 'ConstantOfShape'": greedy,
    "operator 'ConstantOfShape' ": folded,
    r"operator 'f\.F0'": functions,
    "has functions": unused_functions,
    "graph within a graph": nested,
    "graph within a graph ": hidden_graph,
    "sparse tensor": sparse,
    "sparse tensor ": sparse_constant,
    "another file": external,
    r"'e' has the shape \[1099511627776\]": lambda: shaped(1 << 40),
    r"shape \[\d{20}, \d{20}\]": lambda: shaped(-1, -1),
    r"convolution have the shape \[1, 1, 300\]": lambda: convolution(1, 1, 300),
    r"convolution have the shape \[600, 500, 1\]": lambda: convolution(600, 500, 1),
    "convolution are computed": computed_convolution,
    r"window has the shape \[3000, 3000\]": lambda: pool(3000, 3000),
    "window has the shape ": lambda: pool(3000, 3000, floats=[0.0] * 20),
    "more than 4,096 operators": lambda: chain(MOST_NODES),
    "more than 1,000 parts": strings,
    "cut short": lambda: network()[:-1],
    "cut short ": lambda: b"\x3a\xff\xff\xff\xff\x0f",
    "damaged": lambda: b"\x0b",
    "damaged ": lambda: b"\x80" * 20,
}


@pytest.mark.parametrize("said", HOSTILE)
def test_a_model_that_cannot_be_bounded_is_refused_before_it_is_built(said, monkeypatch):
    if "parts" in said:  # so that the test is quick
        monkeypatch.setattr(graph, "MOST_FIELDS", 1000)
    with pytest.raises(ModelError, match=rf"^p: model\.onnx does not load: .*{said.strip()}"):
        check_graph(HOSTILE[said](), "p")


def test_a_model_of_plain_operators_is_not_refused():
    check_graph(network(), "p")
    check_graph(convolution(3, 1, 1), "p")
    check_graph(pool(2), "p")
    check_graph(chain(MOST_NODES - 3), "p")
    packed = helper.make_tensor("packed", TensorProto.INT64, [1000], np.arange(1000))
    check_graph(model_of([last("plain")], [packed]), "p")


def test_a_model_folder_is_checked_when_it_is_loaded(tmp_path):
    with pytest.raises(ModelError, match="graph within a graph"):
        load_model(saved(tmp_path, endless()))


def test_nothing_is_computed_while_a_model_is_loaded(monkeypatch):
    """Constants are computed when the model is run, where there are bounds on time and memory."""
    monkeypatch.setattr(session, "check_graph", lambda *_: None)
    monkeypatch.setattr(session, "RUN_LIMIT_S", 0.0)
    loaded = session.BoundedSession(folded(1500), "p", None)
    with pytest.raises(ModelError, match="took longer than 0 s"):
        loaded.probabilities("x", np.zeros((2, 37), np.float32), 3)
