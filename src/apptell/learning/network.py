"""Images in, a score for each app out: the paper's network, Table 2 layer by layer."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from apptell.learning.first_block import FirstBlock

DROPPED: Final = 0.25
"""Dropout after the second convolution and after the first dense layer (Table 2)."""


class PaperNetwork(nn.Module):
    """Two convolutions, two dense layers; 3,296,518 parameters for six apps.

    Weights begin as Keras begins them: Glorot uniform, biases zero.
    """

    def __init__(self, n_apps: int) -> None:
        """A network for ``n_apps`` apps, its weights drawn from PyTorch's generator."""
        super().__init__()
        self.convolution1 = nn.Conv2d(1, 32, kernel_size=3)
        self.convolution2 = nn.Conv2d(32, 64, kernel_size=3)
        self.dense1 = nn.Linear(64 * 20 * 20, 128)
        self.dense2 = nn.Linear(128, n_apps)
        for layer in (self.convolution1, self.convolution2, self.dense1, self.dense2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, images: Tensor) -> Tensor:
        """The scores before softmax.

        Args:
            images: pixels 0 to 255, uint8 or float32, shape (batch, 87, 87).

        Returns:
            Shape (batch, n_apps).
        """
        # ReLU after pooling gives what ReLU before it gives, on a quarter of the values.
        if images.device.type == "cpu":
            first = self.convolution1
            # (batch, 32, 42, 42)
            x = FirstBlock.apply(images, first.weight, first.bias)  # type: ignore[no-untyped-call]
        else:
            x = images[:, None].float() / 255  # (batch, 1, 87, 87)
            x = self.convolution1(x)  # (batch, 32, 85, 85)
            x = functional.relu(functional.max_pool2d(x, 2))  # (batch, 32, 42, 42)
        x = self.convolution2(x)  # (batch, 64, 40, 40)
        x = functional.relu(functional.max_pool2d(x, 2))  # (batch, 64, 20, 20)
        x = self._drop(x.flatten(1))  # (batch, 25600)
        x = functional.relu(self.dense1(x))  # (batch, 128)
        scores: Tensor = self.dense2(self._drop(x))  # (batch, n_apps)
        return scores

    def _drop(self, x: Tensor) -> Tensor:
        """Dropout of a quarter, in training."""
        if not self.training or x.device.type != "cpu":
            return functional.dropout(x, DROPPED, self.training)
        # A quarter of all bytes is below 64. A CPU draws eight of them in the time in which
        # functional.dropout draws one number.
        n = x.numel()
        words = torch.empty((n + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[:n].view(x.shape) >= 256 * DROPPED
        return x * (kept.to(x.dtype) / (1 - DROPPED))
