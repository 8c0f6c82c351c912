"""A dataset's folder: the manifest value by value, the shard by bytes and by columns that do not fit."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from apptell.dataset import Dataset, DatasetWriter
from apptell.dataset.dataset_card import card
from apptell.dataset.manifest import INFO_FILE, dataset_hash
from apptell.encoding import sequences, statistics
from apptell.flows.schema import GROUPS
from apptell.testing import flow_batch
from tests.fuzz.mutators import spoil
from tests.fuzz.target import Files, Target

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    10**30,
    "",
    "x",
    "../x",
    "/etc/passwd",
    [],
    [1],
    {},
    {"a": 1},
    {"a": "b"},
    [[]],
)


@cache
def _good() -> Files:
    with tempfile.TemporaryDirectory() as place:
        with DatasetWriter(Path(place) / "d") as writer:
            writer.write(flow_batch(["chat", "mail", "chat"]))
            writer.end_source({"name": "x", "sha256": ""})
            writer.commit()
        kept = [
            path for path in (Path(place) / "d").iterdir() if path.suffix in (".json", ".parquet")
        ]
        return {path.name: path.read_bytes() for path in kept}


class Datasets(Target):
    """``dataset.json`` and one shard."""

    name: ClassVar[str] = "datasets"

    def seeds(self) -> dict[str, Files]:
        """One small dataset."""
        return {"small": _good()}

    def mutate(self, files: Files, rng: random.Random) -> Files:
        """The manifest or the shard changed; half of the changed shards have a manifest that fits them."""
        files = dict(files)
        shard = next(name for name in files if name != INFO_FILE)
        kind = rng.randrange(4)
        if kind == 0:
            files[INFO_FILE] = spoil(files[INFO_FILE], rng)
        elif kind == 1:
            files[INFO_FILE] = _spoil_value(files[INFO_FILE], rng)
        else:
            files[shard] = (
                spoil(files[shard], rng) if kind == 2 else _spoil_columns(files[shard], rng)
            )
            if rng.random() < 0.8:
                files[INFO_FILE] = _fitted(files[INFO_FILE], files[shard])
        return files

    def run(self, inputs: Sequence[Files], scratch: Path) -> None:
        """Opens and reads everything, and encodes what compiled code reads."""
        for files in inputs:
            for name, data in files.items():
                (scratch / name).write_bytes(data)
            dataset = Dataset.open(scratch)
            assert card(dataset.info)
            flows = dataset.read(tuple(GROUPS))
            assert len(flows) == len(dataset)
            flows.segments()
            assert len(statistics(flows)) == len(sequences(flows, 8)) == len(flows)


def _spoil_value(text: bytes, rng: random.Random) -> bytes:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return spoil(text, rng)
    inside: Any = {"": value}
    key: Any = ""
    while isinstance(inside[key], dict | list) and inside[key] and rng.random() < 0.85:
        inside = inside[key]
        key = rng.choice(sorted(inside) if isinstance(inside, dict) else range(len(inside)))
    inside[key] = rng.choice(VALUES)
    return json.dumps(value).encode()


def _spoil_columns(data: bytes, rng: random.Random) -> bytes:
    """A shard one of whose columns has other values, lengths or types."""
    try:
        table = pq.read_table(io.BytesIO(data))
        at = rng.randrange(table.num_columns)
        name = table.column_names[at]
        values = table.column(at).to_pylist()
    except (pa.ArrowException, OSError, ValueError):
        return spoil(data, rng)
    row = rng.randrange(len(values)) if values else 0
    if values and isinstance(values[row], list) and rng.random() < 0.6:
        nothing = (
            [] if name == "groups" else [None]
        )  # Arrow ends the process on a map with an absent entry
        values[row] = rng.choice((values[row][:-1], values[row] * 9, nothing, [], None))
    elif values:
        values[row] = rng.choice((None, values[row], values[0]))
    kind = rng.choice((table.schema.field(at).type, pa.string(), pa.int64()))
    try:
        column = pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        column = pa.nulls(len(values))
    changed = table.set_column(at, name, column) if rng.random() < 0.8 else table.remove_column(at)
    out = io.BytesIO()
    pq.write_table(changed, out)
    return out.getvalue()


def _fitted(manifest: bytes, shard: bytes) -> bytes:
    try:
        info = json.loads(manifest)
        info["shards"][0] |= {"bytes": len(shard), "sha256": hashlib.sha256(shard).hexdigest()}
        info["hash"] = dataset_hash(info["shards"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return manifest
    return json.dumps(info).encode()


TARGET = Datasets()
