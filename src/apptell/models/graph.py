"""Refuses ONNX models whose loading or running could not be bounded.

ONNX Runtime cannot be interrupted while it loads a model, or inside one operator. A model is therefore read
here first, as Protocol Buffers and without building anything: it may use operators whose time and memory
follow from the size of what they read, on one level. Functions, subgraphs, sparse and external tensors are
refused: a few bytes of them stand for any amount of work. Field numbers: onnx.proto; wire format:
protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from apptell.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_NODES: Final = 4096
"""Operators of a model: what ONNX Runtime does with them while loading takes time quadratic in their number."""
MOST_FIELDS: Final = 1_000_000
"""Fields that are read one by one; numbers in lists, as a forest has them, do not count."""
_MOST_WEIGHTS: Final = 1 << 18
_MOST_POSITIONS: Final = 256
"""Values and positions of a convolution's kernel; each costs a pass over the input."""
OPERATORS: Final = frozenset((
    "Abs", "Add", "And", "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip",
    "Concat", "Constant", "Conv", "Cos", "Div", "Elu", "Equal", "Erf", "Exp", "Flatten", "Floor",
    "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GRU",
    "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LayerNormalization", "LeakyRelu",
    "Less", "LessOrEqual", "Log", "LogSoftmax", "LSTM", "MatMul", "Max", "MaxPool", "Mean", "Min", "Mul",
    "Neg", "Not", "Or", "Pow", "PRelu", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round", "Selu",
    "Shape", "Sigmoid", "Sign", "Sin", "Slice", "Softmax", "Softplus", "Softsign", "Split", "Sqrt",
    "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze", "Where", "Xor",
))  # fmt: skip
"""Operators of the domain ``ai.onnx`` that a model may use."""
ML_OPERATORS: Final = frozenset(
    (
        "ArrayFeatureExtractor",
        "LinearClassifier",
        "LinearRegressor",
        "Normalizer",
        "Scaler",
        "TreeEnsembleClassifier",
        "TreeEnsembleRegressor",
    )
)
"""The same of ``ai.onnx.ml``."""
_LONG_BYTES: Final = 64
"""Shorter lists, such as the shape of a window, are looked at."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LISTS: Final = re.compile(
    rb"(?:\x3d.{4}|\x40[\x80-\xff]{0,9}[\x00-\x7f]"
    rb"|\x4a(?:\x04LEAF|\x0aBRANCH_LEQ|\x09BRANCH_LT|\x0aBRANCH_GTE|\x09BRANCH_GT|\x09BRANCH_EQ|\x0aBRANCH_NEQ))+",
    re.DOTALL,
)
"""A run of an attribute's floats, ints and modes of tree nodes: one match instead of a step for each value."""

Span: TypeAlias = tuple[int, int]


class RefusedError(Exception):
    """What is wrong with a model."""


def check_graph(onnx_bytes: bytes, place: str) -> None:
    """Refuses a model whose loading or running cannot be bounded.

    Args:
        onnx_bytes: the model.
        place: where it came from, for messages.

    Raises:
        ModelError: it is damaged, too large in some respect, or uses something that is not allowed.
    """
    try:
        GraphReader(onnx_bytes).model()
    except RefusedError as error:
        raise ModelError(f"{place}: model.onnx does not load: {error}") from None


class GraphReader:
    """Walks through a model once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._n_fields = self._n_nodes = 0
        self._constants: dict[bytes, list[int]] = {}
        """Shapes of initializers by name."""
        self._convolutions: list[bytes] = []
        """Names of their weights."""

    def model(self) -> None:
        """Refuses what cannot be bounded.

        Raises:
            RefusedError: with the reason.
        """
        for field, span in self._fields((0, len(self._data))):
            if field == 7:
                self._graph(span)
            elif field == 25:
                raise RefusedError("it has functions")
        for name in self._convolutions:
            shape = self._constants.get(name)
            if shape is None:
                raise RefusedError("the weights of a convolution are computed")
            if _product(shape) > _MOST_WEIGHTS or _product(shape[2:]) > _MOST_POSITIONS:
                raise RefusedError(f"the weights of a convolution have the shape {shape}")

    def _graph(self, graph: Span) -> None:
        for field, span in self._fields(graph):
            if field == 1:
                self._node(span)
            elif field == 5:
                name, shape = self._tensor(span)
                if name in self._constants:
                    raise RefusedError(f"two tensors have the name {_shown(name)}")
                self._constants[name] = shape
            elif field == 15:
                raise RefusedError("it has a sparse tensor")

    def _node(self, node: Span) -> None:
        self._n_nodes += 1
        if self._n_nodes > MOST_NODES:
            raise RefusedError(f"it has more than {MOST_NODES:,} operators")
        inputs, operator, domain = [], b"", b""
        for field, span in self._fields(node):
            if field == 1:
                inputs.append(self._text(span))
            elif field == 4:
                operator = self._text(span)
            elif field == 5:
                self._attribute(span)
            elif field == 7:
                domain = self._text(span)
        known = {b"": OPERATORS, b"ai.onnx": OPERATORS, b"ai.onnx.ml": ML_OPERATORS}
        if operator.decode("latin-1") not in known.get(domain, ()):
            full = domain + b"." * bool(domain) + operator
            raise RefusedError(f"the operator {_shown(full)} is not one that a model may use")
        if operator == b"Conv":
            self._convolutions.append(inputs[1] if len(inputs) > 1 else b"")

    def _attribute(self, attribute: Span) -> None:
        name, sizes = b"", []
        for field, span in self._fields(attribute, has_lists=True):
            if field == 0:
                sizes += [_MOST_POSITIONS + 1]
            elif field == 1:
                name = self._text(span)
            elif field in (5, 10):
                self._tensor(span)
            elif field in (6, 11):
                raise RefusedError("it has a graph within a graph")
            elif field in (22, 23):
                raise RefusedError("it has a sparse tensor")
            elif field == 8:
                sizes += self._numbers(span)
        if name == b"kernel_shape" and _product(sizes) > _MOST_POSITIONS:
            raise RefusedError(f"a window has the shape {sizes}")

    def _tensor(self, tensor: Span) -> tuple[bytes, list[int]]:
        """Name and shape."""
        name: bytes = b""
        shape: list[int] = []
        for field, span in self._fields(tensor):
            if field == 1:
                shape += self._numbers(span)
            elif field == 8:
                name = self._text(span)
            elif field == 13 or (field == 14 and self._numbers(span) != [0]):
                raise RefusedError("a tensor is in another file")
        if _product(shape) > 8 * (tensor[1] - tensor[0]):
            raise RefusedError(f"the tensor {_shown(name)} has the shape {shape[:8]} and less data")
        return name, shape

    def _fields(self, message: Span, *, has_lists: bool = False) -> Iterator[tuple[int, Span]]:
        """Number and place of the value of each field of a message; number 0 for a long run of a list."""
        at, end = message
        while at < end:
            if has_lists and (run := _LISTS.match(self._data, at, end)):
                if run.end() - at > _LONG_BYTES:
                    at = run.end()
                    yield 0, run.span()
                    continue
            self._n_fields += 1
            if self._n_fields > MOST_FIELDS:
                raise RefusedError(f"it has more than {MOST_FIELDS:,} parts")
            key, at = self._varint(at, end)
            kind = key & 7
            if kind == _BYTES:
                size, at = self._varint(at, end)
                span = (at, at + size)
            elif kind == _VARINT:
                span = (at, self._varint(at, end)[1])
            elif kind in (_FIXED64, _FIXED32):
                span = (at, at + (8 if kind == _FIXED64 else 4))
            else:
                raise RefusedError("it is damaged")
            at = span[1]
            if at > end:
                raise RefusedError("it is cut short")
            yield key >> 3, span

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise RefusedError("it is cut short")
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise RefusedError("it is damaged")

    def _numbers(self, span: Span) -> list[int]:
        """A varint, or several in a row."""
        found: list[int] = []
        at, end = span
        while at < end and len(found) < 64:
            value, at = self._varint(at, end)
            found.append(value)  # a negative one is huge
        return found

    def _text(self, span: Span) -> bytes:
        return self._data[span[0] : span[1]]


def _product(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _shown(name: bytes) -> str:
    return repr(name[:80].decode("utf-8", "backslashreplace"))
