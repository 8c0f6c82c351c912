"""Writes models on tokens as ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from apptell.encoding.name_keys import N_KEY_WORDS
from apptell.encoding.structure import N_TOKENS
from apptell.learning.export import onnx_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.learning.name_tables import NameTable


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
    names: NameTable | None = None,
) -> bytes:
    """Exports a model on tokens; its input is uint16, shape (n, N_TOKENS), with names N_KEY_WORDS wider.

    Args:
        vocabulary: the number of each token, 0 for one that is not known, shape (65,536,).
        linear: the linear model.
        dense: the network beside it; None for none.
        share: the network's share of the log probabilities.
        names: the lookup of server names whose answer is mixed in; None for none.
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

    step = _step
    nodes = [
        step("Cast", ["inputs" if names is None else "tokens"], "buckets", to=TensorProto.INT32),
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
    width = N_TOKENS
    if names is None:
        nodes.append(step("Softmax", [last], "probabilities", axis=1))
    else:
        width += N_KEY_WORDS
        weights["widths"] = np.array([N_TOKENS, N_KEY_WORDS], dtype=np.int64)
        nodes.insert(0, step("Split", ["inputs", "widths"], "tokens", "keys", axis=1))
        nodes.append(step("Softmax", [last], "without_names", axis=1))
        nodes += _mix_names(names, "keys", "without_names", weights)
    return _token_model("tokens", nodes, width, n_apps, weights, names)


def lookup_to_onnx(names: NameTable, shares: NDArray[np.float32]) -> bytes:
    """Exports a lookup of server names; its input is uint16, shape (n, N_KEY_WORDS).

    Args:
        names: the learned names.
        shares: probabilities of the apps where no name is known, shape (apps,).
    """
    weights: dict[str, NDArray[Any]] = {"without_names": shares[None].astype(np.float32)}
    nodes = _mix_names(names, "inputs", "without_names", weights)
    return _token_model("names", nodes, N_KEY_WORDS, len(shares), weights, names)


def _mix_names(
    names: NameTable, keys: str, others: str, weights: dict[str, NDArray[Any]]
) -> list[Any]:
    """The steps that mix a lookup's answer into ``others``, as ``NameTable.mixed_into`` does."""
    weights |= {
        "name_slots": names.slots,
        "name_check": names.check,
        "name_apps": names.apps.astype(np.float32),
        "name_weight": names.weight.astype(np.float32)[:, None],
        "certain": np.array([1], dtype=np.float32),
        **{f"word{at}": np.array([at], dtype=np.int64) for at in range(N_KEY_WORDS)},
    }
    nodes = [_step("Cast", [keys], "words", to=TensorProto.INT32)]
    for kind, high, low in (("host", 0, 1), ("domain", 2, 3)):
        nodes += [
            _step("Gather", ["words", f"word{high}"], f"{kind}_high", axis=1),  # (n, 1)
            _step("Gather", ["words", f"word{low}"], f"{kind}_low", axis=1),
            _step("Gather", ["name_slots", f"{kind}_high"], f"{kind}_slot"),
            _step("Gather", ["name_check", f"{kind}_slot"], f"{kind}_check"),
            _step("Equal", [f"{kind}_check", f"{kind}_low"], f"{kind}_equal"),
            _step("Cast", [f"{kind}_equal"], f"{kind}_is", to=TensorProto.INT32),
            _step("Mul", [f"{kind}_slot", f"{kind}_is"], f"{kind}_row"),
        ]
    nodes += [
        _step("Cast", ["host_row"], "host_known", to=TensorProto.BOOL),
        _step("Where", ["host_known", "host_row", "domain_row"], "row"),  # (n, 1)
        _step("Squeeze", ["row", "word1"], "flat_row"),  # (n,)
        _step("Gather", ["name_apps", "flat_row"], "name_says"),  # (n, apps)
        _step("Gather", ["name_weight", "flat_row"], "name_share"),  # (n, 1)
        _step("Sub", ["certain", "name_share"], "other_share"),
        _step("Mul", ["name_says", "name_share"], "name_part"),
        _step("Mul", [others, "other_share"], "other_part"),
        _step("Add", ["name_part", "other_part"], "probabilities"),
    ]
    return nodes


def _step(kind: str, sources: list[str], *targets: str, **attributes: Any) -> Any:
    return helper.make_node(kind, sources, list(targets), **attributes)


def _token_model(
    name: str,
    nodes: list[Any],
    width: int,
    n_apps: int,
    weights: dict[str, NDArray[Any]],
    names: NameTable | None,
) -> bytes:
    properties = {}
    if names is not None:  # for reasons: no operator reads it
        properties["name_sources"] = " ".join(map(str, names.sources.tolist()))
    return onnx_model(
        name,
        nodes,
        helper.make_tensor_value_info("inputs", TensorProto.UINT16, ["n", width]),
        n_apps,
        [numpy_helper.from_array(array, key) for key, array in weights.items()],
        properties,
    )
