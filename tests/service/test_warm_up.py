"""What ``live`` does before packets come."""

import gc
import weakref

from apptell.catalogue import Catalogue
from apptell.catalogue.tables import Tables
from apptell.flows import Assembly, FlowOptions
from apptell.kernels.compiled import KERNELS
from apptell.names import add_names
from apptell.service.warm_up import settle, warm_up
from apptell.testing import client_hello, conversation
from apptell.verdicts import Evidence
from tests.packets.test_decode import batch_of
from tests.packets.test_reassembly import TCP4, fragments4


class Knot:
    """Refers to itself: only a collection frees it."""

    def __init__(self):
        self.itself = self


def test_what_is_there_is_left_out_of_collections_and_what_comes_later_is_not():
    dead = weakref.ref(Knot())
    kept = [Knot()]
    try:
        settle()
        assert dead() is None
        assert gc.get_freeze_count() > 0
        frozen = weakref.ref(kept.pop())
        later = weakref.ref(Knot())
        gc.collect()
        assert frozen() is not None
        assert later() is None
    finally:
        gc.unfreeze()


def test_no_packet_of_an_interface_needs_a_kernel_that_was_not_run_in_advance():
    options = FlowOptions(
        groups=("core", "segments", "names"), transports=(6, 17), lists_decided=True
    )
    warm_up(options, None, Evidence(Catalogue(Tables())))
    known = {kernel: set(kernel.signatures) for kernel in KERNELS}
    ends = ("10.0.0.2", 40000), ("192.0.2.7", 443)
    said = [(True, client_hello("a.example")), *[(i % 2 == 0, b"x") for i in range(6)]]
    frames = [frame for _, frame in conversation(*ends, said)]
    cut = [bytes(12) + b"\x08\0" + each for each in fragments4(TCP4)]
    tagged = frames[-1][:12] + b"\x81\0\0\x01" + frames[-1][12:]
    assembly = Assembly(options, add_names=add_names)
    for some in (frames[:3], frames[3:4], frames[4:-1], cut, [tagged]):
        list(assembly.add(batch_of(some), "wire"))
        list(assembly.table.take_decided())
    assert list(assembly.table.finish())
    new = {kernel.__name__: set(kernel.signatures) - known[kernel] for kernel in KERNELS}
    assert {name: kinds for name, kinds in new.items() if kinds} == {}
