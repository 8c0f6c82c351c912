"""Plain columns say the same as their Arrow arrays, and so do some of their rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from apptell.flows.plain_columns import (
    Coded,
    Lists,
    Masked,
    Text,
    is_there,
    of_rows,
    to_arrow,
    to_list,
)


def text(*values):
    ends = np.cumsum([0, *map(len, values)], dtype=np.int32)
    return Text(ends, np.frombuffer(b"".join(values), dtype=np.uint8))


COLUMNS = {
    "numbers": (np.array([3, 1, 2], dtype=np.int32), pa.int32(), [3, 1, 2]),
    "flags": (np.array([True, False, True]), pa.bool_(), [True, False, True]),
    "coded": (Coded(np.array([1, -1, 0]), ("a", "b")), pa.string(), ["b", None, "a"]),
    "coded nulls": (Coded(np.array([-1, -1, -1]), ()), pa.string(), [None] * 3),
    "dictionary": (
        Coded(np.array([1, 0, 1], dtype=np.int8), ("a", "b")),
        pa.dictionary(pa.int8(), pa.string()),
        ["b", "a", "b"],
    ),
    "masked": (
        Masked(np.array([1.5, 2, 3], np.float32), np.array([False, True, False])),
        pa.float32(),
        [1.5, None, 3.0],
    ),
    "text": (text(b"x.example", b"", "ü".encode()), pa.string(), ["x.example", None, "ü"]),
    "lists": (
        Lists(np.array([0, 2, 2, 3], np.int32), np.array([4, 5, 6], np.int32)),
        pa.list_(pa.int32()),
        [[4, 5], [], [6]],
    ),
    "lists of bytes": (
        Lists(np.array([0, 1, 1, 3], np.int32), text(b"x", b"", b"yz")),
        pa.list_(pa.binary()),
        [[b"x"], [], [b"", b"yz"]],
    ),
    "list": (["a", None, "b"], pa.string(), ["a", None, "b"]),
    "arrow": (pa.array(["a", None, "b"]), pa.string(), ["a", None, "b"]),
    "nulls": (None, pa.uint16(), [None] * 3),
}
KEPT = (
    np.array([True, False, True]),
    np.array([False, False, False]),
    np.array([False, True, True]),
)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_says_the_same_in_every_form(name):
    column, kind, values = COLUMNS[name]
    array = to_arrow(column, kind, 3)
    assert array.type == kind
    assert array.to_pylist() == values
    assert to_list(column, 3) == values
    assert is_there(column, 3).tolist() == [value is not None for value in values]


@pytest.mark.parametrize("keep", KEPT)
@pytest.mark.parametrize("name", COLUMNS)
def test_some_rows_are_those_of_the_array(name, keep):
    column, kind, values = COLUMNS[name]
    some = to_arrow(of_rows(column, keep, kind), kind, int(keep.sum()))
    assert some.to_pylist() == [value for value, kept in zip(values, keep, strict=True) if kept]


@pytest.mark.parametrize("keep", KEPT)
@pytest.mark.parametrize("few", [0, 512])
def test_some_lists_are_those_of_the_array(keep, few, monkeypatch):
    monkeypatch.setattr("apptell.flows.plain_columns._FEW", few)
    ends = np.array([0, 2, 2, 4], dtype=np.int32)
    numbers = Lists(ends, np.array([7, 8, 9, 10], dtype=np.int32))
    blobs = Lists(ends, text(b"ab", b"", b"c", b"de"))
    for column, kind, values in (
        (numbers, pa.list_(pa.int32()), [[7, 8], [], [9, 10]]),
        (blobs, pa.list_(pa.binary()), [[b"ab", b""], [], [b"c", b"de"]]),
    ):
        assert to_arrow(column, kind, 3).to_pylist() == values
        some = to_arrow(of_rows(column, keep, kind), kind, int(keep.sum()))
        assert some.to_pylist() == [value for value, kept in zip(values, keep, strict=True) if kept]
