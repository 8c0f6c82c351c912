"""Writes a dataset for other libraries: flat Parquet, PyTorch's tensors, Hugging Face's folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pyarrow.parquet as pq

from apptell.encoding import ENCODINGS
from apptell.errors import needs_extra
from apptell.experiments.load_dataset import (
    app_names,
    flow_arrays,
    labelled,
    table_with_inputs,
    tables_with_inputs,
)
from apptell.files import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from apptell.dataset import Dataset

INPUTS: Final = "structure"
"""What flows are encoded as: tokens of protocol fields."""


def write_parquet(data: Dataset, folder: Path) -> None:
    """Writes flows.parquet, in bounded memory: a row for each labelled flow, with its tokens as ``inputs``."""
    flows = labelled(data)
    writer: pq.ParquetWriter | None = None
    try:
        for table in tables_with_inputs(flows, INPUTS):
            if writer is None:
                writer = pq.ParquetWriter(
                    folder / "flows.parquet", table.schema, compression="zstd"
                )
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    _describe(data, folder, app_names(flows), len(flows))


def write_tensors(data: Dataset, folder: Path) -> None:
    """Writes flows.pt: tokens and labels as tensors, which ``torch.load(..., weights_only=True)`` reads.

    Raises:
        MissingError: PyTorch is not installed.
    """
    with needs_extra("train", "--to torch"):
        import torch

        from apptell.experiments.torch_flows import as_tensor
    arrays = flow_arrays(labelled(data), INPUTS)
    tensors = {"inputs": as_tensor(arrays.inputs), "labels": torch.from_numpy(arrays.labels)}
    torch.save(tensors, folder / "flows.pt")
    more = {"sources": arrays.sources.tolist(), "flow_ids": arrays.flow_ids.tolist()}
    _describe(data, folder, arrays.apps, len(arrays.labels), **more)


def write_hugging_face(data: Dataset, folder: Path) -> None:
    """Writes a folder that ``datasets.load_from_disk`` reads.

    Raises:
        MissingError: the library is not installed.
    """
    with needs_extra("hf", "--to hf"):
        import datasets
    flows = labelled(data)
    datasets.Dataset(table_with_inputs(flows, INPUTS)).save_to_disk(str(folder))
    _describe(data, folder, app_names(flows), len(flows))


def _describe(
    data: Dataset, folder: Path, apps: list[str], n_flows: int, **more: list[str]
) -> None:
    about = {
        "n_flows": n_flows,
        "apps": apps,
        "inputs": INPUTS,
        "encoding": ENCODINGS[INPUTS].version,
        "dataset_hash": data.hash,
        **more,
    }
    write_file(folder / "flows.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")
