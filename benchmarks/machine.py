"""Nothing in, the machine's measured matrix-product rate out: what the other figures stand beside."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import torch


def machine() -> dict[str, object]:
    """The processor's name and its matrix-product rates in GFLOP/s."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    name = next(
        (line.split(":")[1].strip() for line in cpuinfo.splitlines() if "model name" in line), ""
    )
    before = torch.get_num_threads()
    rates = {
        f"{str(dtype).removeprefix('torch.')}_{threads}_threads": round(
            gemm_rate(dtype, threads), 1
        )
        for dtype in (torch.float32, torch.bfloat16)
        for threads in sorted({1, before})
    }
    torch.set_num_threads(before)
    return {"processor": name, "gemm_gflop_per_s": rates, "torch": torch.__version__}


def gemm_rate(dtype: torch.dtype, threads: int, size: int = 2048, repeats: int = 7) -> float:
    """GFLOP/s of a square matrix product, the best of some repeats."""
    torch.set_num_threads(threads)
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    a @ b
    seconds = min(timed(lambda: a @ b) for _ in range(repeats))
    return 2 * size**3 / seconds / 1e9


def timed(work) -> float:
    """Seconds that it takes; of processor time where APPTELL_CPU_TIME is set.

    Processor time is what to compare on a machine that others are using, and with one thread alone.
    """
    clock = time.process_time if os.environ.get("APPTELL_CPU_TIME") else time.perf_counter
    began = clock()
    work()
    return clock() - began


def network_mflop(n_apps: int = 6) -> float:
    """MFLOP of one flow forward: two for every product of Table 2's layers."""
    convolution1 = 85 * 85 * 32 * 9
    convolution2 = 40 * 40 * 64 * 9 * 32
    dense = 25600 * 128 + 128 * n_apps
    return 2 * (convolution1 + convolution2 + dense) / 1e6


def random_images(n: int) -> np.ndarray:
    """Images of noise, uint8, shape (n, 87, 87): speed does not depend on what they show."""
    return np.random.default_rng(0).integers(0, 256, (n, 87, 87), dtype=np.uint8)
