"""Trained weights of a model on tokens in, an ONNX model out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from apptell.encoding.structure import N_TOKENS
from apptell.learning.export import onnx_model

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Linear(NamedTuple):
    """A score for each app: the sum over a flow's tokens, by the root of their number."""

    table: NDArray[np.float32]
    """Of each token and app, row 0 zero, shape (n_known + 1, apps)."""
    bias: NDArray[np.float32]
    """Shape (apps,)."""


class Dense(NamedTuple):
    """The same sum of embeddings, a hidden layer of rectified sums, a score for each app."""

    table: NDArray[np.float32]
    """Of each token, row 0 zero, shape (n_known + 1, width)."""
    bias: NDArray[np.float32]
    """Shape (width,)."""
    weight: NDArray[np.float32]
    """Shape (apps, width)."""
    offset: NDArray[np.float32]
    """Shape (apps,)."""


def tokens_to_onnx(
    vocabulary: NDArray[np.int32],
    linear: Linear,
    dense: Dense | None = None,
    share: float = 0.0,
) -> bytes:
    """The model; tokens uint16, shape (n, N_TOKENS), in.

    Args:
        vocabulary: the number of each token, 0 for one that is not known, shape (65,536,).
        linear: the linear model.
        dense: the network beside it; None for none.
        share: the network's share of the log probabilities.
    """
    n_apps = len(linear.bias)
    table = linear.table if dense is None else np.hstack([linear.table, dense.table])
    weights: dict[str, NDArray[Any]] = {
        "vocabulary": vocabulary.astype(np.int32),
        "table": table.astype(np.float32),
        "linear_bias": linear.bias.astype(np.float32),
        "linear_share": np.array([1 - share], dtype=np.float32),
        "tokens_axis": np.array([1], dtype=np.int64),
        "one": np.array([1], dtype=np.float32),
    }

    def step(kind: str, sources: list[str], *targets: str, **attributes: Any) -> Any:
        return helper.make_node(kind, sources, list(targets), **attributes)

    nodes = [
        step("Cast", ["inputs"], "buckets", to=TensorProto.INT32),
        step("Gather", ["vocabulary", "buckets"], "numbers"),  # (n, N_TOKENS)
        step("Sign", ["numbers"], "known"),
        step("Cast", ["known"], "ones", to=TensorProto.FLOAT),
        step("ReduceSum", ["ones", "tokens_axis"], "count"),  # (n, 1)
        step("Max", ["count", "one"], "some"),
        step("Sqrt", ["some"], "root"),
        step("Gather", ["table", "numbers"], "rows"),  # (n, N_TOKENS, apps + width)
        step("ReduceSum", ["rows", "tokens_axis"], "summed", keepdims=0),
        step("Div", ["summed", "root"], "scaled"),
    ]
    first = "scaled"
    if dense is not None:
        first = "linear_part"
        weights["split"] = np.array([n_apps, dense.table.shape[1]], dtype=np.int64)
        nodes.append(step("Split", ["scaled", "split"], "linear_part", "hidden_part", axis=1))
    nodes += [
        step("Add", [first, "linear_bias"], "linear_scores"),
        step("LogSoftmax", ["linear_scores"], "linear_log", axis=1),
        step("Mul", ["linear_log", "linear_share"], "linear_scaled"),
    ]
    last = "linear_scaled"
    if dense is not None:
        weights["dense_bias"] = dense.bias.astype(np.float32)
        weights["dense_weight"] = dense.weight.astype(np.float32)
        weights["dense_offset"] = dense.offset.astype(np.float32)
        weights["dense_share"] = np.array([share], dtype=np.float32)
        nodes += [
            step("Add", ["hidden_part", "dense_bias"], "hidden"),
            step("Relu", ["hidden"], "active"),
            step("Gemm", ["active", "dense_weight", "dense_offset"], "dense_scores", transB=1),
            step("LogSoftmax", ["dense_scores"], "dense_log", axis=1),
            step("Mul", ["dense_log", "dense_share"], "dense_scaled"),
            step("Add", ["linear_scaled", "dense_scaled"], "scores"),
        ]
        last = "scores"
    nodes.append(step("Softmax", [last], "probabilities", axis=1))
    return onnx_model(
        "tokens",
        nodes,
        helper.make_tensor_value_info("inputs", TensorProto.UINT16, ["n", N_TOKENS]),
        n_apps,
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
