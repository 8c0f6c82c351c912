"""A dataset enters; CSV, arrays or pictures leave, for people and programs that read no Parquet."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.lib.format import open_memmap

from apptell.encoding import STATISTICS, images, sequences, statistics
from apptell.errors import OutputError, UsageError
from apptell.records.forms.csv import Csv
from apptell.records.schema import flow_record_schema, flow_records
from apptell.records.writers import open_writer
from apptell.reports.png import png

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apptell.dataset import Dataset

FORMS: Final = ("csv", "arrays", "images")
SEQUENCE_LENGTH: Final = 32
_WITHOUT_PAYLOAD: Final = frozenset({"fgnet", "mirage"})


def export_dataset(data: Dataset, folder: Path, form: str) -> int:
    """Writes a dataset into a new folder and says how many flows it wrote.

    Args:
        data: the dataset.
        folder: must not exist; appears whole or not at all.
        form: ``csv``: flows.csv without payload; ``arrays``: images.npy, statistics.npy,
            sequences.npy, labels.npy and arrays.json; ``images``: one PNG per flow, a folder per app.

    Raises:
        UsageError: no such form.
        OutputError: the folder is there already, or cannot be written.
    """
    writers: dict[str, Callable[[Dataset, Path], None]] = {
        "csv": _csv, "arrays": _arrays, "images": _images,
    }  # fmt: skip
    if form not in writers:
        raise UsageError(f"--to {form}: there are {', '.join(FORMS)}")
    if form == "images" and not _has_payload(data):
        raise UsageError("--to images: the flows of this dataset have no payload")
    if folder.exists():
        raise OutputError(f"{folder}: is there already")
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        writers[form](data, temporary)
        temporary.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error}") from error
    return len(data)


def _csv(data: Dataset, folder: Path) -> None:
    groups = ("core", "names", "labels")
    schema = flow_record_schema(groups)
    with open_writer(folder / "flows.csv", Csv(), schema) as writer:
        for batch in data.batches(groups):
            writer.write(flow_records(batch, groups))


def _arrays(data: Dataset, folder: Path) -> None:
    n = len(data)
    labels = list(data.info["apps"])
    number = {label: i for i, label in enumerate(labels)}

    def new(name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
        return open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)

    out = {
        "statistics": new("statistics", np.float32, (n, len(STATISTICS))),
        "sequences": new("sequences", np.float32, (n, SEQUENCE_LENGTH, 3)),
        "labels": new("labels", np.int64, (n,)),
    }
    if _has_payload(data):
        out["images"] = new("images", np.uint8, (n, 87, 87))
    at = 0
    for batch in data.batches():
        rows = slice(at, at + len(batch))
        if "images" in out:
            out["images"][rows] = images(batch)
        out["statistics"][rows] = statistics(batch)
        out["sequences"][rows] = sequences(batch, SEQUENCE_LENGTH)
        out["labels"][rows] = [number[label] for label in batch.column("label").to_pylist()]
        at += len(batch)
    for array in out.values():
        array.flush()
    about = {
        "n_flows": n,
        "labels": labels,
        "statistics": list(STATISTICS),
        "dataset_hash": data.hash,
        "arrays": {name: [str(a.dtype), list(a.shape)] for name, a in out.items()},
    }
    (folder / "arrays.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def _images(data: Dataset, folder: Path) -> None:
    at = 0
    for batch in data.batches(batch_flows=2048):
        pictures = images(batch)
        for row, label in enumerate(batch.column("label").to_pylist()):
            place = folder.joinpath(*map(_file_name, label.split("/")))
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{at + row:08d}.png").write_bytes(png(pictures[row]))
        at += len(batch)


def _has_payload(data: Dataset) -> bool:
    return not set(data.info["label_from"]) <= _WITHOUT_PAYLOAD


def _file_name(label: str) -> str:
    """A label as the name of a folder: nothing that leads elsewhere."""
    return re.sub(r"[^\w.-]", "_", label).lstrip(".") or "_"
