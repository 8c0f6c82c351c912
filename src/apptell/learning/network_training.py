"""Trains the networks as the paper does, with fast code for CPU and GPU.

Section 4: batches of 64, cross-entropy, Adadelta as Keras had it in 2018, 100 epochs. On a CPU the
convolutions run channels-last, and in bfloat16 where the processor multiplies it in hardware; on a
GPU the whole dataset is on the device. The weights and their updates are float32 everywhere.
"""

from __future__ import annotations

import io
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch.nn import functional

from apptell.errors import MissingError, OutputError, UsageError
from apptell.files import make_folder, write_file
from apptell.learning.convolutional import AppNetwork, PaperNetwork
from apptell.learning.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

BATCH: Final = 64
"""Flows of a step (Section 4)."""
REPORT_S: Final = 0.5
"""Time between two calls of the progress callback, seconds."""
KEEP_S: Final = 60.0
"""Time between two checkpoints, seconds."""


@dataclass
class History:
    """The history of a training."""

    rows: list[dict[str, float]] = field(default_factory=list)
    """One per finished epoch: epoch, loss, seconds, and validation_loss and validation_accuracy
    where there is a validation share."""
    best_epoch: int = 0
    """The epoch whose weights are kept: the last one, or the one of least validation loss."""
    interrupted: bool = False
    """Whether the user interrupted it before the last epoch."""
    precision: str = "float32"
    """Precision of the convolutions and dense layers: float32 or bfloat16."""
    device: str = "cpu"

    def summary(self) -> dict[str, Any]:
        """The part that ``model.json`` keeps."""
        return {
            "epochs": len(self.rows),
            "best_epoch": self.best_epoch,
            "interrupted": self.interrupted,
            "loss": self.rows[self.best_epoch - 1]["loss"],
            "seconds": round(sum(row["seconds"] for row in self.rows), 1),
            "device": self.device,
            "precision": self.precision,
        }


def train_network(
    images: NDArray[Any],
    targets: NDArray[np.int64],
    n_apps: int,
    *,
    kind: type[AppNetwork] = PaperNetwork,
    epochs: int = 100,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    validation: NDArray[np.int64] | None = None,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
    lr: float = 1.0,
    batch_size: int = BATCH,
    patience: int = 0,
) -> tuple[AppNetwork, History]:
    """Trains a network as the paper trains its own.

    Without validation rows the last finished epoch is kept, as in the paper; with them the epoch of
    least validation loss, and with ``patience`` the training ends when that loss no longer falls. A
    KeyboardInterrupt after the first epoch ends the training and leaves the best weights so far. The
    same seed gives the same weights on a CPU with the same thread count.

    Args:
        images: pixels or bytes 0 to 255, uint8 or float32, shape (n, *kind.shape).
        targets: app numbers below ``n_apps``, shape (n,).
        n_apps: outputs of the network.
        kind: class of the network.
        epochs: passes over the training rows.
        seed: seed of weights, order and dropout.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        validation: rows for validation, which are not trained on.
        progress: called about twice a second and after every epoch.
        checkpoint: a file that is written about once a minute; an interrupted training that is called again
            with it continues, with identical results on a CPU. It is removed at the end. It must have been
            written with the same arguments.
        lr: factor of Adadelta's own step.
        batch_size: flows in each step.
        patience: epochs without a smaller validation loss after which the training ends; 0 trains all epochs.

    Returns:
        The network, on the CPU and ready to predict, and its history.

    Raises:
        UsageError: an unknown device or precision, or patience without validation rows.
        MissingError: ``cuda`` is requested and not available.
        OutputError: the checkpoint cannot be written, or is damaged.
        KeyboardInterrupt: interrupted before the first epoch was over.
    """
    if patience and validation is None:
        raise UsageError(f"patience={patience} needs flows that are held out: set validation=0.1")
    place = device_of(device)
    dtype = _dtype(precision, place)
    rows = np.arange(len(targets))
    if validation is not None:
        rows = np.setdiff1d(rows, validation)
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(seed)
        network = kind(n_apps).to(place)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        run = _Run(
            network, images, targets, rows, validation, dtype, epochs, progress, checkpoint, lr,
            batch_size, patience,
        )  # fmt: skip
        history = run.train()
    return network.to("cpu").eval(), history


def predict(network: AppNetwork, images: NDArray[Any]) -> NDArray[np.float32]:
    """Probabilities of the apps, float32, shape (n, n_apps)."""
    parts = [np.zeros((0, network.dense2.out_features), dtype=np.float32)]
    with torch.inference_mode():
        for start in range(0, len(images), 256):
            scores = network(torch.from_numpy(images[start : start + 256]))
            parts.append(functional.softmax(scores, dim=1).numpy())
    return np.concatenate(parts)


class _Run:
    """A training in progress."""

    def __init__(
        self,
        network: AppNetwork,
        images: NDArray[Any],
        targets: NDArray[np.int64],
        rows: NDArray[np.int64],
        validation: NDArray[np.int64] | None,
        dtype: torch.dtype,
        epochs: int,
        progress: Callable[[Progress], None] | None,
        checkpoint: Path | None,
        lr: float,
        batch_size: int,
        patience: int,
    ) -> None:
        self.network = network
        self.place = next(network.parameters()).device
        self.images = torch.from_numpy(images).to(self.place)
        self.targets = torch.from_numpy(targets).to(self.place)
        self.rows = torch.from_numpy(rows)
        self.validation = None if validation is None else torch.from_numpy(validation)
        self.dtype = dtype
        self.epochs = epochs
        self.progress = progress
        self.optimizer = torch.optim.Adadelta(network.parameters(), lr=lr, rho=0.95, eps=1e-7)
        self.batch_size = batch_size
        self.patience = patience
        self.history = History(precision=str(dtype).removeprefix("torch."), device=self.place.type)
        self.started = self.reported = self.kept = time.monotonic()
        self.checkpoint = checkpoint
        self.before = 0
        """Epochs that an earlier call had done."""
        self.best: dict[str, Tensor] = {}
        self.least = math.inf

    def train(self) -> History:
        self._resume()
        try:
            for epoch in range(self.before + 1, self.epochs + 1):
                if self.patience and epoch - 1 - self.history.best_epoch >= self.patience:
                    break
                row = self._epoch(epoch)
                self.history.rows.append(row)
                watched = row.get("validation_loss", -float(epoch))
                if math.isfinite(row["loss"]) and watched < self.least:
                    state = self.network.state_dict().items()
                    self.best = {name: tensor.detach().clone() for name, tensor in state}
                    self.least, self.history.best_epoch = watched, epoch
                self._keep()
                self._report(epoch, len(self.rows), force=True)
        except KeyboardInterrupt:
            if not self.best:
                raise
            self.history.interrupted = True
        self.network.load_state_dict(self.best)
        if self.checkpoint is not None and not self.history.interrupted:
            self.checkpoint.unlink(missing_ok=True)
        return self.history

    def _keep(self) -> None:
        """Writes the checkpoint, about once in KEEP_S."""
        now = time.monotonic()
        if self.checkpoint is None or now - self.kept < KEEP_S:
            return
        self.kept = now
        on_gpu = self.place.type == "cuda"
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "least": self.least,
            "best_epoch": self.history.best_epoch,
            "rows": self.history.rows,
            "random": torch.get_rng_state(),
            "device_random": torch.cuda.get_rng_state(self.place) if on_gpu else None,
        }
        make_folder(self.checkpoint.parent)
        content = io.BytesIO()
        torch.save(state, content)
        write_file(self.checkpoint, content.getbuffer())

    def _resume(self) -> None:
        """Continues from an earlier call's checkpoint.

        Raises:
            OutputError: the checkpoint is damaged; half of it may be in place already.
        """
        if self.checkpoint is None or not self.checkpoint.is_file():
            return
        try:
            state = torch.load(self.checkpoint, map_location=self.place, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["random"].cpu())
            if state["device_random"] is not None:
                torch.cuda.set_rng_state(state["device_random"].cpu(), self.place)
            self.best, self.least = state["best"], state["least"]
            self.history.best_epoch = state["best_epoch"]
            self.history.rows = state["rows"]
        except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
            raise OutputError(f"{self.checkpoint}: damaged; remove it: {error}") from error
        self.before = len(self.history.rows)

    def _epoch(self, epoch: int) -> dict[str, float]:
        began = time.monotonic()
        self.network.train()
        # The order is drawn on the CPU, so that it is the same everywhere, and moved once.
        order = self.rows[torch.randperm(len(self.rows))].to(self.place)
        total = torch.zeros((), device=self.place)
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            with torch.autocast(self.place.type, self.dtype, enabled=self._mixed):
                scores = self.network(self.images[batch])
            loss = functional.cross_entropy(scores.float(), self.targets[batch])
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += loss.detach() * len(batch)
            self._report(epoch, start + len(batch))
        row = {"epoch": float(epoch), "loss": float(total) / len(order)}
        if self.validation is not None:
            row |= self._validate(self.validation)
        return row | {"seconds": time.monotonic() - began}

    def _validate(self, rows: Tensor) -> dict[str, float]:
        self.network.eval()
        loss, right = 0.0, 0
        with torch.inference_mode():
            for start in range(0, len(rows), 256):
                batch = rows[start : start + 256].to(self.place)
                scores, targets = self.network(self.images[batch]), self.targets[batch]
                loss += float(functional.cross_entropy(scores, targets, reduction="sum"))
                right += int((scores.argmax(dim=1) == targets).sum())
        return {"validation_loss": loss / len(rows), "validation_accuracy": right / len(rows)}

    @property
    def _mixed(self) -> bool:
        return self.dtype is not torch.float32

    def _report(self, epoch: int, flows: int, *, force: bool = False) -> None:
        now = time.monotonic()
        if self.progress is None or (now - self.reported < REPORT_S and not force):
            return
        self.reported = now
        flows += (epoch - 1 - self.before) * len(self.rows)
        done = (flows + self.before * len(self.rows)) / (self.epochs * len(self.rows))
        last = self.history.rows[-1] if self.history.rows else {}
        elapsed = now - self.started
        self.progress(
            Progress(
                done=done,
                epoch=epoch,
                epochs=self.epochs,
                loss=last.get("loss"),
                validation_accuracy=last.get("validation_accuracy"),
                flows_per_s=flows / elapsed if elapsed else 0.0,
                remaining_s=elapsed * (self.epochs * len(self.rows) * (1 - done)) / max(flows, 1),
            )
        )


def used(device: str = "auto", precision: str = "auto") -> tuple[str, str]:
    """The precision and the device that a training would take: ``bfloat16``, ``cuda``.

    Raises:
        UsageError: an unknown device or precision.
        MissingError: ``cuda`` is requested and not available.
    """
    place = device_of(device)
    return str(_dtype(precision, place)).removeprefix("torch."), place.type


def device_of(name: str) -> torch.device:
    """The device of a name: ``auto``, ``cpu`` or ``cuda``; raises UsageError or MissingError."""
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device {name!r}; available: auto, cpu, cuda")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise MissingError("device cuda: PyTorch finds no GPU; use the device cpu or auto")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def _dtype(precision: str, place: torch.device) -> torch.dtype:
    if precision not in ("auto", "float32", "bfloat16"):
        raise UsageError(f"unknown precision {precision!r}; available: auto, float32, bfloat16")
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if place.type == "cuda" else _multiplies_bfloat16()
        precision = "bfloat16" if fast else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it: without them it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False
    return bool({"amx_bf16", "avx512_bf16"} & set(flags))
