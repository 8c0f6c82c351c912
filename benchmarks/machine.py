"""Measures the machine's matrix-product rate, which the other figures are compared with."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from apptell.experiments.arithmetic import gemm_rate, network_mflop

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["gemm_rate", "machine", "network_mflop", "random_images", "timed"]

CLOCK = time.process_time if os.environ.get("APPTELL_CPU_TIME") else time.perf_counter


def machine() -> dict[str, object]:
    """The processor's name and its matrix-product rates in GFLOP/s."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    name = next(
        (line.split(":")[1].strip() for line in cpuinfo.splitlines() if "model name" in line), ""
    )
    before = torch.get_num_threads()
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        for threads in sorted({1, before}):
            torch.set_num_threads(threads)
            kind = f"{str(dtype).removeprefix('torch.')}_{threads}_threads"
            rates[kind] = round(gemm_rate(dtype, clock=CLOCK), 1)
    torch.set_num_threads(before)
    return {"processor": name, "gemm_gflop_per_s": rates, "torch": torch.__version__}


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes; processor seconds if APPTELL_CPU_TIME is set.

    Compare processor time on a machine that others are using, and with a single thread.
    """
    began = CLOCK()
    work()
    return CLOCK() - began


def random_images(n: int) -> np.ndarray:
    """Images of noise, uint8, shape (n, 87, 87): speed does not depend on what they show."""
    return np.random.default_rng(0).integers(0, 256, (n, 87, 87), dtype=np.uint8)
