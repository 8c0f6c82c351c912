"""Model folders: values of model.json, and the ONNX model field by field, with the right SHA-256 mostly.

A model that loads is run, and every property of it is read. ONNX Runtime reads what is left of a mutant, so a
fault of its own ends the whole run: a find of another kind.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from onnx import TensorProto, helper

from apptell.learning.export import forest_to_onnx
from apptell.learning.trees import Trees
from apptell.models import load_model, write_model
from apptell.models.graph import ML_OPERATORS, OPERATORS
from apptell.models.model_folder import UNKNOWN_FILE
from apptell.models.nearest_tokens import NearestTokens
from apptell.models.unknown_detector import (
    FEATURES,
    LEVELS,
    Description,
    LengthTable,
    UnknownDetector,
)
from apptell.testing import flow_batch
from tests.fuzz.mutators import EXTREMES, spoil
from tests.fuzz.target import Files, Target
from tests.models.tiny import APPS, info, network

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 1.5, 10**30, 1e308, "", "x", "../x", "A", [], [1], ["a", "a"], ["b", "a"], {},
    {"a": 1}, {"alpha": -1}, {"alpha": 1e308, "beta": 1e308}, {"temperature": 1e-320},
    {"temperature": 2, "floor": 1e-320}, {"temperature": 2, "early": [1, 2]},
    {"temperature": 1, "early": None}, {"transports": []}, {"transports": [["tcp"]]}, {"packets": 10**9},
    [[]], "\ud800", "tcp",
)  # fmt: skip
SIZES = (*EXTREMES, 2**63 - 1, 2**63, 2**64 - 1)
DEEP = ("[" * 100_000, '{"a":' * 50_000)


def _tree() -> bytes:
    trees = Trees(
        root=np.array([0, 3]),
        feature=np.array([0, 0, 0]),
        threshold=np.array([1.0, 0.0, 0.0], dtype=np.float32),
        left=np.array([1, -1, -1]),
        right=np.array([2, -1, -1]),
        first=np.array([0, 0, 1, 2]),
        of_class=np.array([0, 2]),
        share=np.array([1.0, 1.0]),
        importance=np.zeros((1, 37)),
        n_classes=3,
        depth=1,
    )
    return forest_to_onnx(trees, 37)


def _operators() -> bytes:
    """A model of operators of many kinds."""
    kinds = ("Relu", "Sigmoid", "Identity", "Tanh", "Neg", "Flatten")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s0"]),
        *(helper.make_node(kind, [f"s{i}"], [f"s{i + 1}"]) for i, kind in enumerate(kinds)),
        helper.make_node("Reshape", [f"s{len(kinds)}", "shape"], ["r"]),
        helper.make_node("Concat", ["r", "r"], ["c"], axis=1),
        helper.make_node("Slice", ["c", "from", "to", "axes"], ["d"]),
        helper.make_node("Gather", ["d", "axes"], ["g"], axis=0),
        helper.make_node("Softmax", ["d"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "many",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 37])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])],
        [
            helper.make_tensor("w", TensorProto.FLOAT, [37, 3], np.zeros(111)),
            helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 3]),
            helper.make_tensor("from", TensorProto.INT64, [1], [0]),
            helper.make_tensor("to", TensorProto.INT64, [1], [3]),
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def _unknown() -> bytes:
    tokens = np.zeros((4, 320), dtype=np.uint16)
    tokens[:, :3] = np.arange(1, 13).reshape(4, 3)
    lengths = LengthTable.of(np.ones((6, 5), np.float32), np.arange(6) % 3, 3)
    detector = UnknownDetector(
        Description(lengths, NearestTokens.of(tokens)),
        np.ones(len(FEATURES)),
        np.sort(np.random.default_rng(0).normal(size=(3, len(LEVELS)))),
        np.array([9, 9, 9]),
        1 - LEVELS,
        -3.0,
        LEVELS**2,
    )
    return detector.to_bytes()


@cache
def _good() -> dict[str, Files]:
    calibration = {"temperature": 1.5, "early": [1.0, 1.1, 1.2, 1.3], "floor": 1e-6}
    more = {
        "calibration": calibration, "threshold": 0.8, "prior": {"alpha": 0.5, "beta": 0.5},
        "learned": {"transports": ["tcp", "udp"]},
        "data": {"hash": "0", "flows": 9, "per_app": dict.fromkeys(APPS, 3)},
    }  # fmt: skip
    unknown = _unknown()
    signed = {"unknown": {"sha256": hashlib.sha256(unknown).hexdigest()}}
    parts: dict[str, tuple[bytes, dict[str, Any]]] = {
        "plain": (network(), {}),
        "forest": (_tree(), more),
        "operators": (_operators(), more),
        "unknown": (network(), signed),
    }
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for name, (onnx_bytes, changes) in parts.items():
            folder = Path(place, name)
            content = unknown if "unknown" in changes else None
            write_model(folder, onnx_bytes, info(**changes), "# card\n", unknown=content)
            found[name] = {path.name: path.read_bytes() for path in folder.iterdir()}
    return found


@cache
def _flows() -> Any:
    return flow_batch(["chat", "mail"])


class Models(Target):
    """``model.json``, ``model.onnx`` and ``README.md``."""

    name: ClassVar[str] = "models"

    def seeds(self) -> dict[str, Files]:
        """Small models of a few kinds."""
        return _good()

    def mutate(self, files: Files, rng: random.Random) -> Files:
        """A value of model.json or a field of model.onnx changed; most of the latter have a right SHA-256."""
        files = dict(files)
        kind = rng.randrange(8)
        if kind == 0:
            files["model.json"] = spoil(files["model.json"], rng)
        elif UNKNOWN_FILE in files and kind < 6:
            files[UNKNOWN_FILE] = _spoil_arrays(files[UNKNOWN_FILE], rng)
            files["model.json"] = _signed(files)
        elif kind < 4:
            files["model.json"] = _spoil_json(files["model.json"], rng)
        else:
            data = files["model.onnx"]
            files["model.onnx"] = spoil(data, rng) if kind == 4 else _spoil_fields(data, rng)
            if rng.random() < 0.95:
                files["model.json"] = _signed(files)
        return files

    def run(self, inputs: Sequence[Files], scratch: Path) -> None:
        """Loads a model, runs it and reads its properties."""
        for files in inputs:
            for name, data in files.items():
                (scratch / name).write_bytes(data)
            model = load_model(scratch, threads=1)
            flows = _flows()
            for early in (False, True):
                found = model.predict_proba(flows, early=early)
                assert found.shape == (len(flows), len(model.apps))
                assert (found >= -1e-3).all()
                assert (found <= 1 + 1e-3).all()
            if model.unknown is not None:
                ranks = model.predict_with_unknown(flows).p_unknown
                assert ((ranks >= 0) & (ranks <= 1)).all()
                _find_nearest(model.unknown)
            assert len(model.hash) == 8
            assert abs(model.prior.sum() - 1) < 1e-6
            assert model.transports
            assert model.decision_packets > 0
            assert repr(model)


def _find_nearest(detector: UnknownDetector) -> None:
    """Compares tokens with the references of a model on other inputs, which never asks for it."""
    neighbours = detector.description.neighbours
    if neighbours is not None:
        found = neighbours.similarity(np.arange(1, 65_536, dtype=np.uint16).reshape(-1, 257))
        assert not np.isnan(found).any()


def _spoil_json(text: bytes, rng: random.Random) -> bytes:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return spoil(text, rng)
    if rng.random() < 0.02:
        return rng.choice(DEEP).encode()
    inside: Any = {"": value}
    key: Any = ""
    while isinstance(inside[key], dict | list) and inside[key] and (not key or rng.random() < 0.6):
        inside = inside[key]
        key = rng.choice(sorted(inside) if isinstance(inside, dict) else range(len(inside)))
    if isinstance(inside, dict) and rng.random() < 0.15:
        del inside[key]
    else:
        inside[key] = rng.choice(VALUES)
    return json.dumps(value).encode()


def _spoil_arrays(data: bytes, rng: random.Random) -> bytes:
    """An archive of arrays, one of which has another type, shape or values; or bytes of it."""
    try:
        arrays = {name: array.copy() for name, array in np.load(io.BytesIO(data)).items()}
    except Exception:  # noqa: BLE001 - NumPy raises errors of many kinds for a mutant
        return spoil(data, rng)
    name = rng.choice(sorted(arrays))
    array, kind = arrays[name], rng.randrange(7)
    if kind == 0 or not array.size:
        return spoil(data, rng)
    if kind == 1:
        arrays[name] = array.astype(
            rng.choice(("f4", "f8", "i8", "u2", "i1", "c8", "S3", "?", "M8[s]"))
        )
    elif kind == 2:
        arrays[name] = array.reshape(rng.choice(((-1,), (1, *array.shape), (-1, 1))))
    elif kind == 3:
        arrays[name] = rng.choice((array[:-1], array[..., :0], np.concatenate([array, array])))
    elif kind == 4:
        del arrays[name]
    else:
        flat = array.astype(np.float64 if kind == 5 else np.int64).reshape(-1)
        flat[rng.randrange(flat.size)] = rng.choice((-1, 0, 65_535, 65_536, -(2**40), 2**40))
        arrays[name] = flat.reshape(array.shape)
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def _signed(files: Files) -> bytes:
    """model.json with the SHA-256 of the other files."""
    text = files["model.json"]
    try:
        value = json.loads(text)
        value["onnx_sha256"] = hashlib.sha256(files["model.onnx"]).hexdigest()
        if UNKNOWN_FILE in files:
            value["unknown"]["sha256"] = hashlib.sha256(files[UNKNOWN_FILE]).hexdigest()
    except (ValueError, TypeError, KeyError, RecursionError):
        return text
    return json.dumps(value).encode()


def _spoil_fields(data: bytes, rng: random.Random) -> bytes:
    """A field of a message, at any depth, changed, repeated, moved away or replaced."""
    fields = _fields(data)
    if not fields:
        return spoil(data, rng)
    at = rng.randrange(len(fields))
    number, kind, value = fields[at]
    if kind == 2 and value and rng.random() < 0.8:
        fields[at] = (number, kind, _spoil_value(value, rng))
    else:
        change = rng.randrange(6)
        if change == 0:
            fields.insert(rng.randrange(len(fields)), fields[at])
        elif change == 1:
            del fields[at]
        elif change == 2:
            fields[at] = (
                rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 14, 15, 20, 22, 25)),
                kind,
                value,
            )
        elif change == 3:
            fields[at] = (number, 2, rng.choice((b"", b"x", value * 2 if kind == 2 else b"\x01")))
        elif change == 4:
            fields[at:at] = [fields[at]] * rng.choice((2, 9, 100))
        else:
            fields[at] = (number, 0, _varint(rng.choice(SIZES) & (2**64 - 1)))
    return b"".join(_field(*field) for field in fields)


def _spoil_value(value: bytes, rng: random.Random) -> bytes:
    """The content of a message, an operator's name, or bytes."""
    name = value.decode("latin-1")
    if name in OPERATORS or name in ML_OPERATORS:
        return rng.choice(sorted(OPERATORS | ML_OPERATORS)).encode()
    if rng.random() < 0.8 and _fields(value):
        return _spoil_fields(value, rng)
    return spoil(value, rng)


def _fields(data: bytes) -> list[tuple[int, int, bytes]]:
    """Number, wire type and value of the fields of a message; none where it is no message."""
    found, at = [], 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == 0:
            _, end = _read_varint(data, at)
        elif kind == 2:
            size, at = _read_varint(data, at)
            end = at + size
        elif kind in (1, 5):
            end = at + (8 if kind == 1 else 4)
        else:
            return []
        if not key >> 3 or end > len(data):
            return []
        found.append((key >> 3, kind, data[at:end]))
        at = end
    return found


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            break
    return value, at


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, kind: int, value: bytes) -> bytes:
    size = _varint(len(value)) if kind == 2 else b""
    return _varint(number << 3 | kind) + size + value


TARGET = Models()
