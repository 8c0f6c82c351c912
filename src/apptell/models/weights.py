"""Reads the weights and the attributes of operators out of an ONNX model, to explain what it computes.

Only NumPy: the package that writes such models belongs to training. The model has been checked before
(``graph``), so nothing here is larger than the file. Field numbers: onnx.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.errors import ModelError
from apptell.models.graph import GraphReader, RefusedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.models.graph import Span

_TYPES: Final[dict[int, str]] = {
    1: "<f4", 2: "<u1", 3: "<i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "<?", 11: "<f8",
}  # fmt: skip
"""NumPy's names of ONNX's data types, as raw data has them."""


class Operator(NamedTuple):
    """One operator of a model's graph."""

    name: str
    """Such as ``TreeEnsembleRegressor``."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    """Numbers, texts (bytes), arrays of numbers and lists of texts."""


class Weights(NamedTuple):
    """What a model's file holds."""

    tensors: dict[str, NDArray[Any]]
    """Constants by name; those of types or forms that apptell does not write are left out."""
    operators: list[Operator]
    """In order."""
    properties: dict[str, str]
    """Texts by name, which do not change what the model computes."""

    def find(self, name: str) -> Operator | None:
        """The only operator of that name; None for none or several."""
        found = [operator for operator in self.operators if operator.name == name]
        return found[0] if len(found) == 1 else None


def read_weights(onnx_bytes: bytes, place: str) -> Weights:
    """The constants and operators of a model that ``check_graph`` accepts.

    Args:
        onnx_bytes: the content of ``model.onnx``.
        place: where it came from, for messages.

    Raises:
        ModelError: it is damaged.
    """
    try:
        return _WeightReader(onnx_bytes).weights()
    except (RefusedError, ValueError) as error:
        raise ModelError(f"{place}: model.onnx cannot be read: {error}") from None


class _WeightReader(GraphReader):
    """Walks through a model and keeps what it meets."""

    def weights(self) -> Weights:
        found = Weights({}, [], {})
        for field, span in self._fields((0, len(self._data))):
            if field == 7:
                for inner, part in self._fields(span):
                    if inner == 1:
                        found.operators.append(self._operator(part))
                    elif inner == 5:
                        name, array = self._array(part)
                        if array is not None:
                            found.tensors[name] = array
            elif field == 14:
                entry = {inner: self._string(part) for inner, part in self._fields(span)}
                found.properties[entry.get(1, "")] = entry.get(2, "")
        return found

    def _operator(self, span: Span) -> Operator:
        inputs, outputs, name = [], [], ""
        attributes: dict[str, Any] = {}
        for field, part in self._fields(span):
            if field == 1:
                inputs.append(self._string(part))
            elif field == 2:
                outputs.append(self._string(part))
            elif field == 4:
                name = self._string(part)
            elif field == 5:
                key, value = self._value(part)
                attributes[key] = value
        return Operator(name, tuple(inputs), tuple(outputs), attributes)

    def _value(self, span: Span) -> tuple[str, Any]:
        """Name and value of an attribute. Runs of list values come as one piece each."""
        name: str = ""
        value: Any = None
        runs: list[bytes] = []
        texts: list[bytes] = []
        for field, part in self._fields(span, has_lists=True):
            raw = self._data[part[0] : part[1]]
            if field == 0:
                runs.append(raw)
            elif field == 1:
                name = raw.decode("utf-8", "replace")
            elif field == 2:
                value = float(np.frombuffer(raw, "<f4")[0])
            elif field == 3:
                value = _varints(raw)[0].item()
            elif field == 4:
                value = raw
            elif field == 7 and len(raw) % 4 == 0:
                runs.append(b"".join(b"\x3d" + raw[at : at + 4] for at in range(0, len(raw), 4)))
            elif field == 8:
                runs.append(b"".join(b"\x40" + each for each in _split_varints(raw)))
            elif field == 9:
                texts.append(raw)
        if texts and not runs:
            return name, texts
        joined = b"".join(runs)
        if joined[:1] == b"\x3d":
            value = np.frombuffer(joined, np.dtype([("tag", "u1"), ("value", "<f4")]))["value"]
        elif joined[:1] == b"\x40":
            value = _varints(joined)[1::2]
        elif joined[:1] == b"\x4a":
            value = [*texts, *_strings(joined)] if texts else _strings(joined)
        return name, value

    def _array(self, span: Span) -> tuple[str, NDArray[Any] | None]:
        """Name and content of a tensor; None where it is of another type or form."""
        name, kind, raw = "", 0, None
        shape: list[int] = []
        floats: bytes | None = None
        for field, part in self._fields(span):
            data = self._data[part[0] : part[1]]
            if field == 1:
                shape += _varints(data).tolist()
            elif field == 2:
                kind = int(_varints(data)[0])
            elif field == 4:
                floats = (floats or b"") + data
            elif field == 8:
                name = data.decode("utf-8", "replace")
            elif field == 9:
                raw = data
        if raw is None and kind == 1:
            raw = floats
        if raw is None or kind not in _TYPES:
            return name, None
        array = np.frombuffer(raw, _TYPES[kind])
        return name, array.reshape(shape)

    def _string(self, span: Span) -> str:
        return self._text(span).decode("utf-8", "replace")


def _varints(raw: bytes) -> NDArray[np.int64]:
    """All varints that bytes hold, negative ones as such."""
    data = np.frombuffer(raw, np.uint8)
    ends = np.flatnonzero(data < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    found = np.zeros(len(ends), dtype=np.uint64)
    for at in range(int((ends - starts).max(initial=-1)) + 1):
        there = starts + at <= ends
        part = (data[starts[there] + at] & 0x7F).astype(np.uint64)
        found[there] |= part << np.uint64(7 * at)
    return found.view(np.int64)


def _split_varints(raw: bytes) -> list[bytes]:
    found, start = [], 0
    for at, byte in enumerate(raw):
        if byte < 0x80:
            found.append(raw[start : at + 1])
            start = at + 1
    return found


def _strings(raw: bytes) -> list[bytes]:
    """Texts of less than 128 bytes, each behind its tag and its length."""
    found, at = [], 0
    while at + 1 < len(raw):
        size = raw[at + 1]
        found.append(raw[at + 2 : at + 2 + size])
        at += 2 + size
    return found
