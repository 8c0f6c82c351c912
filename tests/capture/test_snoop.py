import struct

import numpy as np
import pytest

from apptell.capture import snoop
from apptell.capture.columns import Columns
from tests.capture import crafted
from tests.capture.crafted import FRAMES
from tests.capture.test_pcap import MICRO, frames_of, read, times_of


@pytest.mark.parametrize(
    ("link", "name"), [(4, "ETHERNET"), (0, "ETHERNET"), (8, "FDDI"), (99, "LINKTYPE_65535")]
)
def test_snoop_records_are_read(link, name):
    batches, stats, message = read(crafted.snoop(link=link))
    assert message is None
    assert frames_of(batches) == FRAMES
    assert times_of(batches) == MICRO
    assert stats.link_types == {name: len(FRAMES)}
    assert stats.format == "snoop"


def test_lengths_that_disagree_are_damage_that_names_its_byte():
    data = crafted.snoop()
    bad = struct.pack(">IIIIII", 60, 60, 40, 0, 0, 0) + bytes(60)
    batches, _, message = read(data + bad)
    assert frames_of(batches) == FRAMES
    assert message == f"stream: lengths of a record disagree at byte {len(data)}"


def test_another_version_is_not_known():
    assert read(crafted.snoop(version=3))[2] == "stream: snoop version 3 is not known at byte 0"


@pytest.mark.parametrize("end", [0, 16, 17, 40, 200, 100_000])
def test_the_kernel_reads_within_bounds_in_plain_python(end):
    data = np.frombuffer(crafted.snoop(), dtype=np.uint8)[:end]
    columns = Columns(16)
    n, at, _ = snoop.scan_records.py_func(
        data,
        min(16, len(data)),
        end + 999,
        columns.rows(),
    )
    whole = [16 + sum(24 + len(f) + -len(f) % 4 for f in FRAMES[:k]) for k in range(9)]
    assert n == sum(stop <= len(data) for stop in whole[1:])
    assert at == (whole[n] if len(data) >= 16 else len(data))
