"""Labelled flows as datasets of PyTorch: in memory, or read and encoded while they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, get_worker_info

from apptell.encoding import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apptell.dataset import Selection
    from apptell.experiments.load_dataset import FlowArrays

Sample = tuple[torch.Tensor, int]
"""Inputs of one flow, and the number of its app."""


def as_tensor(inputs: np.ndarray[Any, Any]) -> torch.Tensor:
    """Inputs as a tensor; tokens become int32, as PyTorch computes little with uint16."""
    return torch.from_numpy(inputs.astype(np.int32) if inputs.dtype == np.uint16 else inputs)


class FlowsInMemory(TorchDataset[Sample]):
    """n labelled flows, encoded; ``DataLoader`` shuffles and batches them."""

    def __init__(self, arrays: FlowArrays) -> None:
        self.inputs = as_tensor(arrays.inputs)
        """Shape (n, ...)."""
        self.labels = torch.from_numpy(arrays.labels)
        """Shape (n,)."""
        self.apps = arrays.apps
        """The names of the labels."""
        self.sources = arrays.sources
        """Where each flow came from, shape (n,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, at: int) -> Sample:
        return self.inputs[at], int(self.labels[at])

    def __repr__(self) -> str:
        shape = tuple(self.inputs.shape[1:])
        return f"<FlowsInMemory: {len(self):,} flows of {len(self.apps)} apps, inputs {shape}>"


class FlowStream(IterableDataset[Sample]):
    """Labelled flows in their own order, read batch by batch; workers take batches in turn."""

    def __init__(
        self,
        flows: Selection,
        apps: list[str],
        inputs: str,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.apps = apps
        """The names of the labels."""
        self._flows, self._inputs, self._options = flows, inputs, options
        self._number = {app: at for at, app in enumerate(apps)}

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        turn, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for at, batch in enumerate(self._flows.batches()):
            if at % workers != turn:
                continue
            inputs = as_tensor(encode(batch, self._inputs, self._options))
            for row, label in enumerate(batch.column("label").to_pylist()):
                yield inputs[row], self._number[label.partition("/")[0]]

    def __repr__(self) -> str:
        return f"<FlowStream: {len(self):,} flows of {len(self.apps)} apps>"
