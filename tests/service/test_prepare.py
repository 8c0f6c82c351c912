"""What ``apptell config compile`` leaves compiled."""

from __future__ import annotations

from apptell.kernels.compiled import KERNELS
from apptell.models import load_model
from apptell.service.prepare import prepare


def test_every_kernel_that_a_capture_may_need_is_prepared():
    prepare(load_model())
    missing = {
        f"{each.py_func.__module__}.{each.__name__}" for each in KERNELS if not each.signatures
    }
    assert {name for name in missing if not name.startswith("apptell.learning.")} == set()
