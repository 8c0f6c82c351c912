"""Writes networks and forests as ONNX models, operator by operator.

Opset 17 and IR version 9, which ONNX Runtime has read since 1.17. The input is ``inputs``, the
output ``probabilities``, float32, shape (n, apps).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto, checker, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from apptell.learning.convolutional import AppNetwork
    from apptell.learning.trees import Trees

OPSET: Final = 17
ML_OPSET: Final = 3
IR_VERSION: Final = 9


def network_to_onnx(network: AppNetwork) -> bytes:
    """A network of two convolutions with softmax; pixels or bytes uint8, shape (n, *shape), in."""
    weights = {
        name.replace(".", "_"): tensor.detach().cpu().numpy()
        for name, tensor in network.state_dict().items()
    }
    rank, ends = len(network.shape), 2 * len(network.shape)
    # The division of pixels by 255, once for all.
    weights["convolution1_weight"] = weights["convolution1_weight"] / np.float32(255)
    weights["channel"] = np.array([1], dtype=np.int64)

    def step(kind: str, source: str, target: str, *layer: str, **attributes: Any) -> Any:
        return helper.make_node(kind, [source, *layer], [target], **attributes)

    def pool(source: str, target: str) -> Any:
        sides = {"kernel_shape": [network.pool] * rank, "strides": [network.pool] * rank}
        return step("MaxPool", source, target, pads=[network.pool_padding] * ends, **sides)

    def weighted(kind: str, source: str, target: str, layer: str, **attributes: Any) -> Any:
        return step(kind, source, target, f"{layer}_weight", f"{layer}_bias", **attributes)

    nodes = [
        step("Cast", "inputs", "pixels", to=TensorProto.FLOAT),
        step("Unsqueeze", "pixels", "image", "channel"),
        weighted("Conv", "image", "maps1", "convolution1", pads=[network.padding] * ends),
        step("Relu", "maps1", "active1"),
        pool("active1", "pooled1"),
        weighted("Conv", "pooled1", "maps2", "convolution2", pads=[network.padding] * ends),
        step("Relu", "maps2", "active2"),
        pool("active2", "pooled2"),
        step("Flatten", "pooled2", "flat"),
        weighted("Gemm", "flat", "hidden", "dense1", transB=1),
        step("Relu", "hidden", "active3"),
        weighted("Gemm", "active3", "scores", "dense2", transB=1),
        step("Softmax", "scores", "probabilities", axis=1),
    ]
    return onnx_model(
        type(network).__name__,
        nodes,
        helper.make_tensor_value_info("inputs", TensorProto.UINT8, ["n", *network.shape]),
        len(weights["dense2_bias"]),
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )


@dataclass(frozen=True, slots=True)
class ForestCalibration:
    """The calibration of a forest's votes: softmax of log(scale * votes + floor) / temperature."""

    scale: float
    floor: NDArray[np.float64]
    """Shape (classes,)."""
    temperature: float


def forest_to_onnx(
    trees: Trees, n_features: int, calibration: ForestCalibration | None = None
) -> bytes:
    """A forest; features float32, shape (n, n_features), in."""
    sizes = np.diff(trees.root)
    of_tree = np.repeat(np.arange(len(trees)), sizes)
    of_node = np.arange(trees.root[-1]) - np.repeat(trees.root[:-1], sizes)
    leaf = trees.left < 0
    of_share = np.repeat(np.arange(trees.root[-1]), np.diff(trees.first))
    # A regressor with one target a class: the classifier operator of ONNX Runtime answers [-1, 1]
    # for two classes when all trees agree.
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["inputs"],
        ["probabilities" if calibration is None else "votes"],
        domain="ai.onnx.ml",
        n_targets=trees.n_classes,
    )
    kinds = {
        "nodes_modes": (AttributeProto.STRINGS, np.where(leaf, b"LEAF", b"BRANCH_LEQ")),
        "nodes_treeids": (AttributeProto.INTS, of_tree),
        "nodes_nodeids": (AttributeProto.INTS, of_node),
        "nodes_featureids": (AttributeProto.INTS, trees.feature),
        "nodes_truenodeids": (AttributeProto.INTS, np.where(leaf, 0, trees.left)),
        "nodes_falsenodeids": (AttributeProto.INTS, np.where(leaf, 0, trees.right)),
        "nodes_values": (AttributeProto.FLOATS, trees.threshold),
        "target_treeids": (AttributeProto.INTS, of_tree[of_share]),
        "target_nodeids": (AttributeProto.INTS, of_node[of_share]),
        "target_ids": (AttributeProto.INTS, trees.of_class),
        "target_weights": (AttributeProto.FLOATS, trees.share / len(trees)),
    }
    for name, (kind, values) in sorted(kinds.items()):
        # One list of Python numbers at a time: a large forest has millions of nodes.
        attribute = node.attribute.add(name=name, type=kind)
        getattr(attribute, AttributeProto.AttributeType.Name(kind).lower()).extend(values.tolist())
    after, constants = ([], []) if calibration is None else _calibrated(calibration)
    return onnx_model(
        "forest",
        [node, *after],
        helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["n", n_features]),
        trees.n_classes,
        constants,
    )


def _calibrated(calibration: ForestCalibration) -> tuple[list[Any], list[Any]]:
    """Nodes from "votes" to "probabilities", and their constants."""
    values = {
        "scale": calibration.scale,
        "floor": np.maximum(calibration.floor, np.finfo(np.float32).tiny),
        "temperature": calibration.temperature,
    }
    nodes = [
        helper.make_node("Mul", ["votes", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "floor"], ["mixed"]),
        helper.make_node("Log", ["mixed"], ["logarithms"]),
        helper.make_node("Div", ["logarithms", "temperature"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    constants = [
        numpy_helper.from_array(np.asarray(value, dtype=np.float32), name)
        for name, value in values.items()
    ]
    return nodes, constants


def onnx_model(
    name: str,
    nodes: Sequence[Any],
    inputs: Any,
    n_apps: int,
    weights: Sequence[Any],
    properties: Mapping[str, str] | None = None,
) -> bytes:
    """Nodes, an input and weights as a checked model whose output is ``probabilities``, (n, n_apps).

    ``properties`` are texts that the model keeps and that do not change what it computes.
    """
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
    helper.set_model_props(model, dict(properties or {}))
    checker.check_model(model)
    return bytes(model.SerializeToString())
