"""A small model by hand: softmax of a linear function, in a few lines of ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from apptell.encoding import ENCODINGS, complete_options

APPS = ["alpha", "beta", "gamma"]


def info(**changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "apps": APPS,
        "inputs": "statistics",
        "encoding": 1,
        "options": {},
        "threshold": None,
        "calibration": None,
        "data": {"hash": "0", "flows": 0, "per_app": {}},
        "seed": 0,
        "metrics": {},
        "versions": {},
        "created": "2026-01-01T00:00:00Z",
        **changes,
    }


def weights(width: int = 37, n_apps: int = 3) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=(width, n_apps)) * 1e-3).astype(np.float32)


def network(
    inputs: str = "statistics",
    n_apps: int = 3,
    shape: tuple[int, ...] | None = None,
    output: str = "probabilities",
) -> bytes:
    encoding = ENCODINGS[inputs]
    shape = encoding.shape(complete_options(inputs, {})) if shape is None else shape
    width = int(np.prod(shape))
    kind = TensorProto.UINT8 if encoding.dtype is np.uint8 else TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["f"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["scores"]),
            helper.make_node("Softmax", ["scores"], [output], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", kind, ["n", *shape])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", n_apps])],
        [numpy_helper.from_array(weights(width, n_apps), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized
