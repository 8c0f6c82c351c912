"""Memory of handed-out columns: given back when nobody holds it, never before."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest

from apptell.flows.slabs import Slab, Slabs
from apptell.names import read_flows
from apptell.testing import START_NS, pcap_bytes, tcp_frame

LARGE = 1 << 20


def column(slabs, n, value):
    values = slabs.take(Slab.size((n, 8))).column(n, np.int64)
    values[:] = value
    return pa.array(values)


def address(array):
    return array.buffers()[1].address


def test_a_slab_that_nobody_holds_is_used_again():
    slabs = Slabs()
    first = column(slabs, LARGE, 1)
    where = address(first)
    del first
    assert address(column(slabs, LARGE, 2)) == where


def test_a_slab_that_somebody_holds_keeps_its_content():
    slabs = Slabs()
    first = column(slabs, LARGE, 1)
    part = first.slice(5, 3)
    del first
    column(slabs, LARGE, 2)
    assert part.to_pylist() == [1, 1, 1]


def test_a_slab_of_many_columns_comes_back_with_the_last_of_them():
    slabs = Slabs()
    slab = slabs.take(Slab.size((LARGE, 8), (LARGE, 4)))
    long, short = slab.column(LARGE, np.int64), slab.column(LARGE, np.int32)
    where = long.ctypes.data
    del slab, long
    other = column(slabs, LARGE, 0)
    assert address(other) != where
    del short
    assert address(column(slabs, LARGE, 0)) == where


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 63, 64, 65, 5000])
def test_the_size_told_is_the_size_cut(n):
    widths = (1, 2, 4, 8, 46)
    slab = Slabs().take(max(Slab.size(*((n, width) for width in widths)), LARGE))
    for width in widths:
        values = slab.column(n * width, np.uint8)
        assert (len(values), values.ctypes.data % 64) == (n * width, 0)


def test_any_number_of_flows_fits_its_slab():
    for n in range(1, 70):
        frames = [tcp_frame(("10.0.0.2", 40000 + i), ("192.0.2.7", 443), b"x") for i in range(n)]
        capture = pcap_bytes([(START_NS, frame) for frame in frames])
        assert len(read_flows(io.BytesIO(capture)).to_flows()) == n


def test_few_slabs_wait():
    slabs = Slabs()
    held = [column(slabs, LARGE, value) for value in range(10)]
    del held
    assert len(slabs._free) == 4
