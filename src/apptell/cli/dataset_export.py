"""Exports a dataset as CSV, arrays or images, for people and programs that do not read Parquet."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from apptell.encoding import STATISTICS, images, sequences, statistics
from apptell.errors import OutputError, UsageError
from apptell.experiments.write_dataset import write_hugging_face, write_parquet, write_tensors
from apptell.files import new_file, new_folder, write_file
from apptell.records.forms.csv import Csv, RawCsv
from apptell.records.schema import flow_record_schema, flow_records
from apptell.records.writers import open_writer
from apptell.reports.png import png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from apptell.dataset import Dataset

FORMS: Final = ("csv", "arrays", "images", "parquet", "torch", "hf")
SEQUENCE_LENGTH: Final = 32
_WITHOUT_PAYLOAD: Final = frozenset({"fgnet", "mirage", "cesnet", "utmobilenet"})


def export_dataset(data: Dataset, folder: Path, form: str, *, raw_csv: bool = False) -> int:
    """Writes a dataset into a new folder and returns the number of flows written.

    Args:
        data: the dataset.
        folder: must not exist; it appears whole or not at all.
        form: ``csv``: flows.csv without payload; ``arrays``: images.npy, statistics.npy,
            sequences.npy, labels.npy and arrays.json; ``images``: one PNG per flow, a folder per app;
            ``parquet``: flows.parquet with ids, groups and the tokens of each flow; ``torch``: flows.pt with
            tokens and labels, and flows.json; ``hf``: a dataset of Hugging Face on disk.
        raw_csv: whether text in CSV stays as it is, even if a spreadsheet would run it.

    Raises:
        UsageError: no such form.
        OutputError: the folder is there already, or cannot be written.
    """
    writers: dict[str, Callable[[Dataset, Path], None]] = {
        "csv": partial(_csv, form=RawCsv() if raw_csv else Csv()), "arrays": _arrays, "images": _images,
        "parquet": write_parquet, "torch": write_tensors, "hf": write_hugging_face,
    }  # fmt: skip
    if form not in writers:
        raise UsageError(f"--to {form}: available: {', '.join(FORMS)}")
    if form == "images" and not _has_payload(data):
        raise UsageError("--to images: the flows of this dataset have no payload")
    if folder.exists():
        raise OutputError(f"{folder}: is there already")
    with new_folder(folder) as fresh:
        writers[form](data, fresh)
    return len(data)


def _csv(data: Dataset, folder: Path, form: Csv) -> None:
    groups = ("core", "names", "labels")
    schema = flow_record_schema(groups)
    with open_writer(folder / "flows.csv", form, schema) as writer:
        for batch in data.batches(groups):
            writer.write(flow_records(batch, groups))


def _arrays(data: Dataset, folder: Path) -> None:
    n = len(data)
    labels = list(data.info["apps"])
    number = {label: i for i, label in enumerate(labels)}
    arrays: dict[str, tuple[DTypeLike, tuple[int, ...]]] = {
        "statistics": (np.float32, (n, len(STATISTICS))),
        "sequences": (np.float32, (n, SEQUENCE_LENGTH, 3)),
        "labels": (np.int64, (n,)),
    }
    if _has_payload(data):
        arrays["images"] = (np.uint8, (n, 87, 87))
    with ExitStack() as stack:
        # written and not mapped into memory: a mapped file on a full disk ends the process (SIGBUS)
        out = {
            name: stack.enter_context(_array_file(folder / f"{name}.npy", dtype, shape))
            for name, (dtype, shape) in arrays.items()
        }

        def add(name: str, rows: NDArray[Any]) -> None:
            out[name].write(np.ascontiguousarray(rows, arrays[name][0]).tobytes())

        for batch in data.batches():
            if "images" in out:
                add("images", images(batch))
            add("statistics", statistics(batch))
            add("sequences", sequences(batch, SEQUENCE_LENGTH))
            add("labels", np.array([number[each] for each in batch.column("label").to_pylist()]))
    about = {
        "n_flows": n,
        "labels": labels,
        "statistics": list(STATISTICS),
        "dataset_hash": data.hash,
        "arrays": {
            name: [str(np.dtype(dtype)), list(shape)] for name, (dtype, shape) in arrays.items()
        },
    }
    write_file(folder / "arrays.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def _array_file(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A file in NumPy's format after its header; its values follow in order, row by row."""
    with new_file(path) as file:
        header = {
            "descr": dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape,
        }  # fmt: skip
        write_array_header_1_0(file, header)
        yield file


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
