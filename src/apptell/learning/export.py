"""A trained network or forest in, an ONNX model out; written by hand, with no exporter's opinions.

Opset 17 and IR version 9, which ONNX Runtime has read since 1.17. The input is ``inputs``, the
output ``probabilities``, float32, shape (n, apps).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sklearn.ensemble import RandomForestClassifier

    from apptell.learning.network import PaperNetwork

OPSET: Final = 17
ML_OPSET: Final = 3
IR_VERSION: Final = 9


def network_to_onnx(network: PaperNetwork) -> bytes:
    """The paper's network with softmax; images uint8, shape (n, 87, 87), in."""
    weights = {
        name.replace(".", "_"): tensor.detach().cpu().numpy()
        for name, tensor in network.state_dict().items()
    }
    # The division of pixels by 255, once for all.
    weights["convolution1_weight"] = weights["convolution1_weight"] / np.float32(255)
    weights["channel"] = np.array([1], dtype=np.int64)

    def step(kind: str, source: str, target: str, *layer: str, **attributes: Any) -> Any:
        return helper.make_node(kind, [source, *layer], [target], **attributes)

    def pool(source: str, target: str) -> Any:
        return step("MaxPool", source, target, kernel_shape=[2, 2], strides=[2, 2])

    def weighted(kind: str, source: str, target: str, layer: str, **attributes: Any) -> Any:
        return step(kind, source, target, f"{layer}_weight", f"{layer}_bias", **attributes)

    nodes = [
        step("Cast", "inputs", "pixels", to=TensorProto.FLOAT),
        step("Unsqueeze", "pixels", "image", "channel"),
        weighted("Conv", "image", "maps1", "convolution1"),
        step("Relu", "maps1", "active1"),
        pool("active1", "pooled1"),
        weighted("Conv", "pooled1", "maps2", "convolution2"),
        step("Relu", "maps2", "active2"),
        pool("active2", "pooled2"),
        step("Flatten", "pooled2", "flat"),
        weighted("Gemm", "flat", "hidden", "dense1", transB=1),
        step("Relu", "hidden", "active3"),
        weighted("Gemm", "active3", "scores", "dense2", transB=1),
        step("Softmax", "scores", "probabilities", axis=1),
    ]
    return _model(
        "paper_cnn",
        nodes,
        helper.make_tensor_value_info("inputs", TensorProto.UINT8, ["n", 87, 87]),
        len(weights["dense2_bias"]),
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )


def forest_to_onnx(forest: RandomForestClassifier) -> bytes:
    """A random forest; features float32, shape (n, features), in.

    A feature goes left when it is at most the threshold. Thresholds are float64 in scikit-learn and
    float32 in ONNX: each becomes the largest float32 not above it, which sorts every float32
    feature to the same side.
    """
    trees = [_tree_attributes(at, each.tree_) for at, each in enumerate(forest.estimators_)]
    attributes: dict[str, Any] = {
        name: np.concatenate([tree[name] for tree in trees]).tolist() for name in trees[0]
    }
    leaf = attributes.pop("leaf")
    attributes["nodes_modes"] = ["LEAF" if is_leaf else "BRANCH_LEQ" for is_leaf in leaf]
    attributes["target_weights"] = (
        np.array(attributes["target_weights"]) / len(forest.estimators_)
    ).tolist()
    # A regressor with one target a class: the classifier operator of ONNX Runtime answers [-1, 1]
    # for two classes when all trees agree.
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["inputs"],
        ["probabilities"],
        domain="ai.onnx.ml",
        n_targets=len(forest.classes_),
        **attributes,
    )
    return _model(
        "forest",
        [node],
        helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["n", forest.n_features_in_]),
        len(forest.classes_),
        [],
    )


def _tree_attributes(number: int, tree: Any) -> dict[str, NDArray[Any]]:
    """One tree's nodes and leaf weights as the operator wants them."""
    leaf = tree.children_left < 0
    at_leaf, of_class = np.nonzero(tree.value[:, 0, :] * leaf[:, None])
    nodes = np.arange(tree.node_count)
    return {
        "leaf": leaf,
        "nodes_treeids": np.full(tree.node_count, number),
        "nodes_nodeids": nodes,
        "nodes_featureids": np.where(leaf, 0, tree.feature),
        "nodes_values": np.where(leaf, 0, _round_down(tree.threshold)),
        "nodes_truenodeids": np.where(leaf, 0, tree.children_left),
        "nodes_falsenodeids": np.where(leaf, 0, tree.children_right),
        "target_treeids": np.full(len(at_leaf), number),
        "target_nodeids": at_leaf,
        "target_ids": of_class,
        "target_weights": tree.value[at_leaf, 0, of_class] / tree.value[at_leaf, 0].sum(axis=1),
    }


def _round_down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 not above each value."""
    near = values.astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf))
    return np.where(near > values, below, near)


def _model(
    name: str, nodes: Sequence[Any], inputs: Any, n_apps: int, weights: Sequence[Any]
) -> bytes:
    graph = helper.make_graph(
        nodes,
        name,
        [inputs],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", n_apps])],
        weights,
    )
    model: ModelProto = helper.make_model(
        graph,
        producer_name="apptell",
        ir_version=IR_VERSION,
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid("ai.onnx.ml", ML_OPSET),
        ],
    )
    checker.check_model(model)
    return bytes(model.SerializeToString())
