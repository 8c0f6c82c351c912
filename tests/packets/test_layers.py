"""A link layer from outside the package, and what the table of layers refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from apptell.errors import UsageError
from apptell.kernels.cache_folders import cache_folders
from apptell.packets import Decoder
from apptell.packets.layers.registry import LAYER_OF_LINK, LAYERS, link_layer, open_layer

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = '''
"""A link type of its own: a byte that says its length, then an EtherType."""

from apptell.packets.byte_fields import be16
from apptell.packets.headers import Status
from apptell.packets.layers.numbers import ETHERTYPE
from apptell.packets.layers.registry import link_layer

CUT = int(Status.CUT_IN_HEADERS)


@link_layer(link_types=(147,))
def open_own(buffer, at, end, wire_end, ethertype):
    if at + 1 > end or at + 3 + buffer[at] > end:
        return -CUT, at, wire_end, ethertype
    at += 1 + buffer[at]
    return ETHERTYPE, at + 2, wire_end, be16(buffer, at)
'''
PROGRAM = """
from tests.packets.test_decode import IP4, payload_of
print(payload_of(b"\\x03abc\\x08\\x00" + IP4, 147), payload_of(b"\\x00\\x08\\x00" + IP4, 147))
"""


@pytest.mark.slow
def test_a_link_type_comes_from_another_package(tmp_path, monkeypatch):
    (tmp_path / "own_layer.py").write_text(PLUGIN)
    info = tmp_path / "own_layer-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-layer\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[apptell.link_layers]\nown = own_layer\n")
    paths = [str(tmp_path), str(ROOT), str(ROOT / "src")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    own = cache_folders()[0]
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    if own.is_dir():  # kernels that the layer does not change need not be compiled
        shutil.copytree(own, cache_folders()[0], ignore=shutil.ignore_patterns("*.py*"))
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout == "b'hello' b'hello'\n", done.stderr


def test_a_layer_that_comes_too_late_is_refused():
    Decoder()
    before = dict(LAYERS)
    with pytest.raises(UsageError, match="before the first packet is decoded"):
        link_layer(link_types=(147,))(lambda: None)
    assert before == LAYERS


def test_every_link_type_leads_to_a_layer_that_is_there():
    from apptell.packets.layers import numbers

    reached = set(LAYER_OF_LINK.tolist()) - {numbers.UNKNOWN, numbers.IP}
    assert reached <= set(LAYERS)
    named = {value for name, value in vars(numbers).items() if name.isupper()}
    opened_by_the_decoder = {
        numbers.UNKNOWN, numbers.IP, numbers.AMSDU, numbers.LINK_TYPE, numbers.FIRST_FREE
    }  # fmt: skip
    assert named - opened_by_the_decoder <= set(LAYERS)


def test_the_table_reads_the_same_in_plain_python():
    import numpy as np

    from apptell.packets.layers.numbers import PPP, PPPOE

    frame = np.frombuffer(b"\x11\0\0\1\0\2\0\x21", dtype=np.uint8)
    assert open_layer(PPPOE, frame, 0, 8, 100, 0) == (PPP, 6, 8, 0)
    assert open_layer(250, frame, 0, 8, 100, 0)[0] == -1
