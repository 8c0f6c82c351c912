"""The paper's convolutional network on images, and a one-dimensional network on bytes."""

from __future__ import annotations

from typing import ClassVar, Final

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

    shape: ClassVar[tuple[int, ...]] = (87, 87)
    """Shape of one flow's pixels."""
    padding: ClassVar[int] = 0
    """Zeros at each end of a convolution's input."""
    pool: ClassVar[int] = 2
    """Number of values that are pooled into one after a convolution."""
    pool_padding: ClassVar[int] = 0
    """Padding at each end of the pooled values."""

    def __init__(self, n_apps: int) -> None:
        """A network for ``n_apps`` apps, its weights drawn from PyTorch's generator."""
        super().__init__()
        self.convolution1 = nn.Conv2d(1, 32, kernel_size=3)
        self.convolution2 = nn.Conv2d(32, 64, kernel_size=3)
        self.dense1 = nn.Linear(64 * 20 * 20, 128)
        self.dense2 = nn.Linear(128, n_apps)
        _begin_as_keras(self)

    def forward(self, images: Tensor) -> Tensor:
        """The scores before softmax.

        Args:
            images: pixels 0 to 255, uint8 or float32, shape (batch, 87, 87).

        Returns:
            Shape (batch, n_apps).
        """
        # ReLU after pooling gives what ReLU before it gives, on a quarter of the values.
        if _on_cpu(images):
            first = self.convolution1
            # (batch, 32, 42, 42)
            x = FirstBlock.apply(images, first.weight, first.bias)  # type: ignore[no-untyped-call]
        else:
            x = images[:, None].float() / 255  # (batch, 1, 87, 87)
            x = self.convolution1(x)  # (batch, 32, 85, 85)
            x = functional.relu(functional.max_pool2d(x, 2))  # (batch, 32, 42, 42)
        x = self.convolution2(x)  # (batch, 64, 40, 40)
        x = functional.relu(functional.max_pool2d(x, 2))  # (batch, 64, 20, 20)
        x = drop(x.flatten(1), training=self.training)  # (batch, 25600)
        x = functional.relu(self.dense1(x))  # (batch, 128)
        scores: Tensor = self.dense2(drop(x, training=self.training))  # (batch, n_apps)
        return scores


class ByteNetwork(nn.Module):
    """The literature's one-dimensional network on a flow's first 784 bytes (Wang et al. 2017, Table II).

    Two convolutions 25 bytes wide, each pooled by three; 5,826,438 parameters for six apps. What that
    paper leaves open is as in the network above: weights, dropout.
    """

    shape: ClassVar[tuple[int, ...]] = (784,)
    """Shape of one flow's bytes."""
    padding: ClassVar[int] = 12
    """Zeros at each end of a convolution's input."""
    pool: ClassVar[int] = 3
    """Number of values that are pooled into one after a convolution."""
    pool_padding: ClassVar[int] = 1
    """Padding at each end of the pooled values."""

    def __init__(self, n_apps: int) -> None:
        """A network for ``n_apps`` apps, its weights drawn from PyTorch's generator."""
        super().__init__()
        self.convolution1 = nn.Conv1d(1, 32, kernel_size=25, padding=self.padding)
        self.convolution2 = nn.Conv1d(32, 64, kernel_size=25, padding=self.padding)
        self.dense1 = nn.Linear(64 * 88, 1024)
        self.dense2 = nn.Linear(1024, n_apps)
        _begin_as_keras(self)

    def forward(self, payloads: Tensor) -> Tensor:
        """The scores before softmax.

        Args:
            payloads: bytes 0 to 255, uint8 or float32, shape (batch, 784).

        Returns:
            Shape (batch, n_apps).
        """
        x = payloads[:, None].float() / 255  # (batch, 1, 784)
        x = self._pooled(self.convolution1(x))  # (batch, 32, 262)
        x = self._pooled(self.convolution2(x))  # (batch, 64, 88)
        x = functional.relu(self.dense1(x.flatten(1)))  # (batch, 1024)
        scores: Tensor = self.dense2(drop(x, training=self.training))  # (batch, n_apps)
        return scores

    def _pooled(self, x: Tensor) -> Tensor:
        # ReLU after pooling gives what ReLU before it gives, on a third of the values.
        return functional.relu(functional.max_pool1d(x, self.pool, padding=self.pool_padding))


AppNetwork = PaperNetwork | ByteNetwork


def _begin_as_keras(network: AppNetwork) -> None:
    for layer in (
        network.convolution1,
        network.convolution2,
        network.dense1,
        network.dense2,
    ):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.get_parameter("bias"))


def drop(x: Tensor, *, training: bool) -> Tensor:
    """Dropout of a quarter, in training."""
    if not training or not _on_cpu(x):
        return functional.dropout(x, DROPPED, training)
    # A quarter of all bytes is below 64. A CPU draws eight of them in the time in which
    # functional.dropout draws one number.
    n = x.numel()
    words = torch.empty((n + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.uint8)[:n].view(x.shape) >= 256 * DROPPED
    return x * (kept.to(x.dtype) / (1 - DROPPED))


def _on_cpu(x: Tensor) -> bool:
    """Whether to use the code that is fast on a CPU instead of PyTorch's own layers."""
    return x.device.type == "cpu"
