from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from apptell.errors import ModelError
from apptell.learning import StatisticsForest
from apptell.models import load_model
from apptell.models.model import DEFAULT_MODEL
from apptell.models.weights import read_weights
from tests.models.tiny import network, weights


def test_constants_are_those_that_were_written():
    found = read_weights(network(), "here")
    np.testing.assert_array_equal(found.tensors["w"], weights())
    assert [operator.name for operator in found.operators] == [
        "Cast",
        "Flatten",
        "MatMul",
        "Softmax",
    ]
    assert found.operators[2].inputs == ("flat", "w")


def test_the_shipped_model_is_read_as_the_onnx_package_reads_it():
    found = load_model().read_weights()
    graph = onnx.load(DEFAULT_MODEL / "model.onnx").graph
    assert set(found.tensors) == {each.name for each in graph.initializer}
    for each in graph.initializer:
        np.testing.assert_array_equal(found.tensors[each.name], numpy_helper.to_array(each))
    assert [operator.name for operator in found.operators] == [node.op_type for node in graph.node]


@pytest.mark.parametrize(
    "n_flows", [8, 400]
)  # short lists are read value by value, long ones at once
def test_the_nodes_of_trees_are_read_as_the_onnx_package_reads_them(n_flows):
    random = np.random.default_rng(0)
    forest = StatisticsForest(3, random_state=0).fit(
        random.normal(size=(n_flows, 5)), random.integers(0, 3, n_flows)
    )
    written = forest.to_onnx()
    found = read_weights(written, "here").find("TreeEnsembleRegressor")
    assert found is not None
    (node,) = onnx.load_from_string(written).graph.node
    for attribute in node.attribute:
        expected = onnx.helper.get_attribute_value(attribute)
        value = found.attributes[attribute.name]
        if isinstance(expected, list) and isinstance(expected[0], (int, float)):
            np.testing.assert_array_equal(value, np.array(expected, np.asarray(value).dtype))
        else:
            assert value == expected


def test_a_damaged_file_is_refused_with_its_place():
    with pytest.raises(ModelError, match=r"^here: model.onnx cannot be read: "):
        read_weights(network()[:-7], "here")
