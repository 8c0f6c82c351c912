"""Trains a network of token embeddings.

The embeddings of a flow's tokens are summed and scaled by the root of their number; one hidden layer leads to
the scores of the apps. Random shares of the tokens are dropped in training, so that no single field decides.
Batches are drawn by weight: each class, and each group within it, equally often.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from apptell.learning.network_training import REPORT_S, History, device_of
from apptell.learning.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apptell.learning.token_batch import TokenBatch

WIDTH: Final = 48
"""Numbers that stand for a token."""
BATCH: Final = 64
DROPPED: Final = 0.3
"""Share of tokens and of the hidden layer that is dropped in training; of tokens, 0 to twice as much."""
_SMOOTHING: Final = 0.05


class TokenNetwork(nn.Module):
    """Embeddings, their sum, a hidden layer with ReLU, and a score for each app."""

    def __init__(self, n_known: int, n_apps: int) -> None:
        """A network for ``n_known`` tokens, its weights drawn from PyTorch's generator."""
        super().__init__()
        self.table = nn.Embedding(n_known + 1, WIDTH, padding_idx=0)
        nn.init.normal_(self.table.weight, std=0.3)
        with torch.no_grad():
            self.table.weight[0] = 0
        self.bias = nn.Parameter(torch.zeros(WIDTH))
        self.dense = nn.Linear(WIDTH, n_apps)

    def forward(self, numbers: Tensor) -> Tensor:
        """Numbers of tokens, shape (batch, width), 0 where none, to scores, shape (batch, apps)."""
        count = (numbers > 0).sum(dim=1, keepdim=True).clamp(min=1)  # (batch, 1)
        summed = self.table(numbers).sum(dim=1) * count.rsqrt()  # (batch, WIDTH)
        hidden = functional.relu(summed + self.bias)
        scores: Tensor = self.dense(functional.dropout(hidden, DROPPED, self.training))
        return scores


def train_tokens(
    batch: TokenBatch,
    n_apps: int,
    *,
    epochs: int,
    seed: int,
    device: str = "auto",
    progress: Callable[[Progress], None] | None = None,
    lr: float,
    decay: float,
) -> tuple[TokenNetwork, History]:
    """Trains by AdamW with one cycle of the learning rate.

    Args:
        batch: the training data.
        n_apps: classes.
        epochs: passes; each draws as many views as there were flows.
        seed: seed of weights, draws and dropout.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: called about twice a second.
        lr: largest step of AdamW.
        decay: weight decay of AdamW.

    Raises:
        KeyboardInterrupt: interrupted before the first epoch was over; later the weights so far are kept.
    """
    place = device_of(device)
    history = History(device=place.type)
    with torch.random.fork_rng(), _one_thread():
        torch.manual_seed(seed)
        network = TokenNetwork(batch.n_known, n_apps).to(place)
        numbers = torch.from_numpy(batch.vocabulary[batch.tokens]).to(place)
        target = torch.from_numpy(batch.target).to(place)
        random = np.random.default_rng(seed)
        chance = np.cumsum(batch.weight / batch.weight.sum())
        per_epoch = max(1, round(batch.n_flows / BATCH))
        optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=decay, fused=True)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, lr, total_steps=epochs * per_epoch + 1
        )
        began = said = time.monotonic()
        try:
            for epoch in range(1, epochs + 1):
                start, losses = time.monotonic(), []
                for step in range(per_epoch):
                    rows = np.searchsorted(chance, random.random(BATCH)).clip(max=len(chance) - 1)
                    drawn = numbers[torch.from_numpy(rows).to(place)]
                    drawn = drawn[:, : int((drawn > 0).sum(dim=1).max())]
                    rate = torch.rand(len(drawn), 1, device=place) * 2 * DROPPED
                    kept = torch.rand(drawn.shape, device=place) >= rate
                    loss = functional.cross_entropy(
                        network(drawn * kept), target[torch.from_numpy(rows).to(place)],
                        label_smoothing=_SMOOTHING,
                    )  # fmt: skip
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    cycle.step()
                    losses.append(loss.detach())
                    if progress is not None and time.monotonic() - said >= REPORT_S:
                        said = time.monotonic()
                        done = (epoch - 1 + (step + 1) / per_epoch) / epochs
                        progress(_state(done, epoch, epochs, history, said - began, batch.n_flows))
                loss_now = float(torch.stack(losses).mean())
                seconds = time.monotonic() - start
                history.rows.append({"epoch": epoch, "loss": loss_now, "seconds": seconds})
                history.best_epoch = epoch
                if progress is not None:
                    spent = time.monotonic() - began
                    progress(_state(epoch / epochs, epoch, epochs, history, spent, batch.n_flows))
        except KeyboardInterrupt:
            if not history.rows:
                raise
            history.interrupted = True
    return network.eval().cpu(), history


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limits PyTorch to one thread: two take ten times as long for small steps on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _state(
    done: float, epoch: int, epochs: int, history: History, spent_s: float, n_flows: int
) -> Progress:
    return Progress(
        done=done,
        epoch=epoch,
        epochs=epochs,
        loss=history.rows[-1]["loss"] if history.rows else None,
        validation_accuracy=None,
        flows_per_s=done * epochs * n_flows / max(spent_s, 1e-9),
        remaining_s=spent_s * (1 - done) / max(done, 1e-9),
    )
