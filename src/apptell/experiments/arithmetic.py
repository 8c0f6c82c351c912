"""The flows a second that a machine's measured matrix-product rate allows the network.

It is an upper limit for comparison and not a goal: memory, pooling and the optimizer are not included.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

_TRAINING: Final = 3
"""A training step is about three forward passes' worth of arithmetic."""


def network_mflop(n_apps: int = 6) -> float:
    """MFLOP of one flow forward through the paper's network: two for every product of Table 2's layers."""
    convolution1 = 85 * 85 * 32 * 9
    convolution2 = 40 * 40 * 64 * 9 * 32
    dense = 25600 * 128 + 128 * n_apps
    return 2 * (convolution1 + convolution2 + dense) / 1e6


def gemm_rate(
    dtype: torch.dtype,
    device: str = "cpu",
    size: int = 2048,
    repeats: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """GFLOP/s of a square matrix product with PyTorch's threads, the best of some repeats by a clock."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def once() -> float:
        began = clock()
        c = a @ b
        float(c[0, 0])  # a GPU has to be waited for
        return clock() - began

    once()
    return 2 * size**3 / min(once() for _ in range(repeats)) / 1e9


def flow_limits(precision: str, device: str, n_apps: int = 6) -> tuple[float, float]:
    """Flows a second that the arithmetic allows: of training in this precision, and of identification.

    Identification runs in float32.

    Args:
        precision: ``float32`` or ``bfloat16``.
        device: ``cpu`` or ``cuda``, where it is trained; identification is on the CPU.
        n_apps: outputs of the network.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    mflop = network_mflop(n_apps)
    return (
        gemm_rate(dtype, device) * 1e3 / (_TRAINING * mflop),
        gemm_rate(torch.float32) * 1e3 / mflop,
    )
