"""The network's first block (convolution, pooling, ReLU) in one pass on a CPU.

A convolution with one input channel and 32 outputs writes 32 floats for each pixel, and pooling discards
three quarters of them: on a CPU, memory traffic costs far more than the arithmetic. These kernels keep a 4 x
    4 patch and its four sums in registers and write only the pooled maps. They compute
``relu(max_pool2d(conv2d(images / 255), 2))``, to float32 rounding, and the weights' gradient.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from apptell.kernels.compiled import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SILENT = 4
"""Marks a pooled value that ReLU set to zero, where 0 to 3 say which of four pixels was largest."""

_pool = ThreadPoolExecutor(thread_name_prefix="first-block")


class FirstBlock(torch.autograd.Function):
    """The first convolution (3 x 3, no padding), 2 x 2 maximum pooling and ReLU, on a CPU."""

    @staticmethod
    def forward(
        ctx: Any, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """Computes the pooled maps.

        Args:
            ctx: the context that is passed to backward.
            images: pixels 0 to 255, uint8 or float32, shape (n, h, w).
            weight: float32, shape (c, 1, 3, 3).
            bias: float32, shape (c,).

        Returns:
            float32, shape (n, c, (h - 2) // 2, (w - 2) // 2), channels last in memory.
        """
        n, height, width = images.shape
        maps = torch.empty(n, (height - 2) // 2, (width - 2) // 2, len(bias))
        winner = torch.empty(maps.shape, dtype=torch.uint8)
        kernel = (weight.detach().reshape(len(bias), 9).T / 255).contiguous()
        pixels, sums = images.detach().contiguous().numpy(), maps.numpy()
        winners, kernels, biases = winner.numpy(), kernel.numpy(), bias.detach().numpy()
        _in_parallel(
            lambda begin, end: see(
                pixels[begin:end], kernels, biases, sums[begin:end], winners[begin:end]
            ),
            n,
        )
        ctx.save_for_backward(images, winner)
        return maps.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor, torch.Tensor]:
        """The gradients for weight and bias; images need none."""
        images, winner = ctx.saved_tensors
        pixels, winners = images.contiguous().numpy(), winner.numpy()
        slope = gradients[0].permute(0, 2, 3, 1).contiguous().numpy()
        n, channels = len(images), winner.shape[3]
        # One sum per image, added up in order: the same bits however many threads there are.
        by_image = np.zeros((n, 10, channels), dtype=np.float32)
        _in_parallel(
            lambda begin, end: learn(
                pixels[begin:end], slope[begin:end], winners[begin:end], by_image[begin:end]
            ),
            n,
        )
        total = torch.from_numpy(by_image.sum(axis=0))
        return None, (total[:9] / 255).T.reshape(channels, 1, 3, 3), total[9]


def _in_parallel(work: Callable[[int, int], None], n: int) -> None:
    """Splits images 0 to n among as many threads as PyTorch uses."""
    parts = max(1, min(torch.get_num_threads(), n))
    edges = [n * part // parts for part in range(parts + 1)]
    rest = [_pool.submit(work, edges[part], edges[part + 1]) for part in range(1, parts)]
    work(edges[0], edges[1])
    for part in rest:
        part.result()


@kernel(fastmath=True)
def see(
    pixels: NDArray[Any],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    maps: NDArray[np.float32],
    winner: NDArray[np.uint8],
) -> None:
    """Convolves, pools and rectifies.

    Args:
        pixels: shape (n, h, w).
        weight: shape (9, c), row by row of the 3 x 3 window.
        bias: shape (c,).
        maps: shape (n, (h - 2) // 2, (w - 2) // 2, c), written.
        winner: as ``maps``; which of the four pooled sums was largest, or SILENT; written.
    """
    p = np.empty(16, dtype=np.float32)
    zero = np.float32(0)
    for i in range(maps.shape[0]):
        for y in range(maps.shape[1]):
            for x in range(maps.shape[2]):
                for at in range(16):
                    p[at] = pixels[i, 2 * y + at // 4, 2 * x + at % 4]
                p0, p1, p2, p3 = p[0], p[1], p[2], p[3]
                p4, p5, p6, p7 = p[4], p[5], p[6], p[7]
                p8, p9, pa, pb = p[8], p[9], p[10], p[11]
                pc, pd, pe, pf = p[12], p[13], p[14], p[15]
                for c in range(maps.shape[3]):
                    w0, w1, w2 = weight[0, c], weight[1, c], weight[2, c]
                    w3, w4, w5 = weight[3, c], weight[4, c], weight[5, c]
                    w6, w7, w8 = weight[6, c], weight[7, c], weight[8, c]
                    s0 = p0 * w0 + p1 * w1 + p2 * w2 + p4 * w3 + p5 * w4 + p6 * w5
                    s0 += p8 * w6 + p9 * w7 + pa * w8
                    s1 = p1 * w0 + p2 * w1 + p3 * w2 + p5 * w3 + p6 * w4 + p7 * w5
                    s1 += p9 * w6 + pa * w7 + pb * w8
                    s2 = p4 * w0 + p5 * w1 + p6 * w2 + p8 * w3 + p9 * w4 + pa * w5
                    s2 += pc * w6 + pd * w7 + pe * w8
                    s3 = p5 * w0 + p6 * w1 + p7 * w2 + p9 * w3 + pa * w4 + pb * w5
                    s3 += pd * w6 + pe * w7 + pf * w8
                    which = np.uint8(0)
                    best = s0
                    which = np.uint8(1) if s1 > best else which
                    best = max(best, s1)
                    which = np.uint8(2) if s2 > best else which
                    best = max(best, s2)
                    which = np.uint8(3) if s3 > best else which
                    best = max(best, s3) + bias[c]
                    winner[i, y, x, c] = which if best > zero else np.uint8(SILENT)
                    maps[i, y, x, c] = max(best, zero)


@kernel(fastmath=True)
def learn(
    pixels: NDArray[Any],
    slope: NDArray[np.float32],
    winner: NDArray[np.uint8],
    gradient: NDArray[np.float32],
) -> None:
    """Adds up the gradients of weight and bias, image by image.

    Args:
        pixels: shape (n, h, w).
        slope: gradient of the maps, shape (n, (h - 2) // 2, (w - 2) // 2, c).
        winner: what ``see`` wrote, of the same shape.
        gradient: shape (n, 10, c): nine weights, then the bias; comes in as zeros, written.
    """
    p = np.empty(16, dtype=np.float32)
    zero = np.float32(0)
    for i in range(slope.shape[0]):
        for y in range(slope.shape[1]):
            for x in range(slope.shape[2]):
                for at in range(16):
                    p[at] = pixels[i, 2 * y + at // 4, 2 * x + at % 4]
                p0, p1, p2, p3 = p[0], p[1], p[2], p[3]
                p4, p5, p6, p7 = p[4], p[5], p[6], p[7]
                p8, p9, pa, pb = p[8], p[9], p[10], p[11]
                pc, pd, pe, pf = p[12], p[13], p[14], p[15]
                for c in range(slope.shape[3]):
                    which = winner[i, y, x, c]
                    g0 = slope[i, y, x, c] if which == 0 else zero
                    g1 = slope[i, y, x, c] if which == 1 else zero
                    g2 = slope[i, y, x, c] if which == 2 else zero
                    g3 = slope[i, y, x, c] if which == 3 else zero
                    gradient[i, 0, c] += p0 * g0 + p1 * g1 + p4 * g2 + p5 * g3
                    gradient[i, 1, c] += p1 * g0 + p2 * g1 + p5 * g2 + p6 * g3
                    gradient[i, 2, c] += p2 * g0 + p3 * g1 + p6 * g2 + p7 * g3
                    gradient[i, 3, c] += p4 * g0 + p5 * g1 + p8 * g2 + p9 * g3
                    gradient[i, 4, c] += p5 * g0 + p6 * g1 + p9 * g2 + pa * g3
                    gradient[i, 5, c] += p6 * g0 + p7 * g1 + pa * g2 + pb * g3
                    gradient[i, 6, c] += p8 * g0 + p9 * g1 + pc * g2 + pd * g3
                    gradient[i, 7, c] += p9 * g0 + pa * g1 + pd * g2 + pe * g3
                    gradient[i, 8, c] += pa * g0 + pb * g1 + pe * g2 + pf * g3
                    gradient[i, 9, c] += g0 + g1 + g2 + g3
