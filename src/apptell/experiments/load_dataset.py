"""Loads a dataset as a table, as arrays, or as a dataset of PyTorch or Hugging Face."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from apptell.dataset import Dataset, Selection
from apptell.encoding import encode
from apptell.errors import UsageError, needs_extra
from apptell.verdicts.verdict_frame import FRAMES, as_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from apptell.flows import FlowBatch

LOADED: Final = (*FRAMES, "numpy", "torch", "torch-stream", "hf")
"""What a dataset can be loaded as."""
_IDENTITY: Final = ("start_ns", "connection_id", "part")
"""What tells a flow from all others of a dataset; a 5-tuple comes again in another capture."""
_TABLE_GROUPS: Final = ("core", "names", "labels")


class FlowArrays(NamedTuple):
    """Inputs and labels of n flows.

    Example:
        >>> arrays = apptell.load_dataset("dataset/", "numpy", inputs="lengths")
        >>> arrays.inputs.shape, arrays.labels[:3].tolist()
        ((40, 10), [0, 0, 0])
    """

    inputs: NDArray[Any]
    """Shape (n, ...): as the encoding gives them."""
    labels: NDArray[np.int64]
    """Number of each flow's app in ``apps``, shape (n,)."""
    apps: list[str]
    """Sorted."""
    sources: NDArray[np.str_]
    """Where each flow came from, shape (n,): flows of one source must not be on both sides of a split."""
    flow_ids: NDArray[np.str_]
    """Of each flow, unlike those of all others: start in ns, ``connection_id``, ``part``, shape (n,)."""


def load_dataset(
    source: Dataset | Selection | str | Path,
    to: Literal["arrow", "pandas", "polars", "numpy", "torch", "torch-stream", "hf"] = "pandas",
    *,
    inputs: str = "structure",
    options: Mapping[str, Any] | None = None,
    groups: Sequence[str] = _TABLE_GROUPS,
) -> Any:
    """Loads the labelled flows of a dataset in the form that another library takes.

    Args:
        source: a dataset, its folder, or a side of a split.
        to: ``arrow``, ``pandas``, ``polars``: a table, one row for each flow, groups of flows as columns
            (``group_source``, ...). ``numpy``: inputs of models, labels and sources as arrays. ``torch``: a map
            style dataset of (inputs, label). ``torch-stream``: an ``IterableDataset`` of the same, which reads
            and encodes flows batch by batch and shares them among workers. ``hf``: a ``datasets.Dataset`` with
            the columns of the table, the inputs and the label.
        inputs: name of the encoding, where inputs are made.
        options: of the encoding (default: its own).
        groups: column groups of a table: core, segments, names, labels, audit.

    Returns:
        What ``to`` says. Datasets of PyTorch have ``apps``, the names of the labels.

    Raises:
        DatasetError: there is no dataset, or a shard is damaged.
        MissingError: the library is not installed.
        UsageError: no such form, encoding or option.

    Example:
        >>> table = apptell.load_dataset("dataset/")
        >>> table.groupby("app").size().to_dict()
        {'signal': 20, 'zoom': 20}
        >>> arrays = apptell.load_dataset("dataset/", "numpy", inputs="statistics")
        >>> arrays.inputs.shape, arrays.apps, len(set(arrays.sources))
        ((40, 37), ['signal', 'zoom'], 5)
    """
    if to not in LOADED:
        raise UsageError(f"a dataset cannot be loaded as {to!r}; available: {', '.join(LOADED)}")
    flows = labelled(source)
    if to in FRAMES:
        return as_frame(flat_table(flows, groups), to)
    if to == "numpy":
        return flow_arrays(flows, inputs, options)
    if to == "hf":
        with needs_extra("hf", "a dataset of Hugging Face"):
            import datasets

            return datasets.Dataset(table_with_inputs(flows, inputs, options))
    with needs_extra("train", "a dataset of PyTorch"):
        from apptell.experiments.torch_flows import FlowsInMemory, FlowStream
    if to == "torch":
        return FlowsInMemory(flow_arrays(flows, inputs, options))
    return FlowStream(flows, app_names(flows), inputs, options)


def labelled(source: Dataset | Selection | str | Path) -> Selection:
    """The flows with a label."""
    opened = Dataset.open(source) if isinstance(source, (str, Path)) else source
    flows = Selection.of(opened)
    return flows.filter(flows.flows.column("label").is_valid().to_numpy(False))


def app_names(flows: Selection) -> list[str]:
    """The apps of flows, sorted."""
    return sorted(set(apps_of(flows.flows)))


def apps_of(flows: FlowBatch) -> list[str]:
    """The app of each flow; an activity belongs to its app."""
    return [label.partition("/")[0] for label in flows.column("label").to_pylist()]


def flow_arrays(
    flows: Selection, inputs: str, options: Mapping[str, Any] | None = None
) -> FlowArrays:
    """Inputs, labels and sources of labelled flows."""
    apps = app_names(flows)
    number = {app: at for at, app in enumerate(apps)}
    whole = flows.flows
    return FlowArrays(
        flows.gather(lambda batch: encode(batch, inputs, options)),
        np.array([number[app] for app in apps_of(whole)], dtype=np.int64),
        apps,
        np.array(_group(whole, "source"), dtype=np.str_),
        np.array(_flow_ids(whole), dtype=np.str_),
    )


def flat_table(flows: Selection, groups: Sequence[str] = _TABLE_GROUPS) -> pa.Table:
    """Labelled flows as a table: ``flow_id``, ``app``, columns of some groups, and ``group_NAME`` columns."""
    parts = [_flat(batch, _group_names(flows)) for batch in flows.batches(tuple(groups))]
    return pa.concat_tables(parts) if parts else _flat(flows.flows, [])


def table_with_inputs(
    flows: Selection, inputs: str, options: Mapping[str, Any] | None = None
) -> pa.Table:
    """The same with the columns ``inputs`` (lists, flattened) and ``target`` (number of the app)."""
    parts = list(tables_with_inputs(flows, inputs, options))
    return pa.concat_tables(parts) if parts else flat_table(flows)


def tables_with_inputs(
    flows: Selection, inputs: str, options: Mapping[str, Any] | None = None
) -> Iterator[pa.Table]:
    """The same in parts, in bounded memory."""
    number = {app: at for at, app in enumerate(app_names(flows))}
    names = _group_names(flows)
    for batch in flows.batches():
        rows = encode(batch, inputs, options).reshape(len(batch), -1)
        width, values = rows.shape[1], pa.array(rows.reshape(-1))
        found = _flat(batch, names, ("core", "names", "labels"))
        target = [number[app] for app in apps_of(batch)]
        yield found.append_column(
            "inputs", pa.FixedSizeListArray.from_arrays(values, width)
        ).append_column("target", pa.array(target, pa.int64()))


def _flat(batch: FlowBatch, names: Sequence[str], groups: Sequence[str] | None = None) -> pa.Table:
    """A batch without maps and dictionaries, which not every library knows."""
    from apptell.flows.schema import GROUPS

    table = pa.Table.from_batches([batch.to_arrow()])
    wanted = None if groups is None else {name for each in groups for name in GROUPS[each]}
    columns: dict[str, Any] = {}
    if set(_IDENTITY) <= set(table.schema.names):
        columns["flow_id"] = pa.array(_flow_ids(batch), pa.string())
    if "label" in table.schema.names:
        apps = [label and label.partition("/")[0] for label in batch.column("label").to_pylist()]
        columns["app"] = pa.array(apps, pa.string())
    for field in table.schema:
        column = table.column(field.name)
        if field.name == "groups" or (wanted is not None and field.name not in wanted):
            continue
        if pa.types.is_dictionary(field.type):
            column = column.cast(field.type.value_type)
        columns[field.name] = column
    for name in names:
        columns[f"group_{name}"] = pa.array(_group(batch, name), pa.string())
    return pa.table(columns)


def _group_names(flows: Selection) -> list[str]:
    """Names of the groups that any flow has, sorted."""
    rows = flows.flows.column("groups").to_pylist()
    return sorted({name for row in rows for name, _ in row or ()})


def _group(flows: FlowBatch, name: str) -> list[str | None]:
    if "groups" not in flows.columns:
        return [None] * len(flows)
    return [dict(row or ()).get(name) for row in flows.column("groups").to_pylist()]


def _flow_ids(flows: FlowBatch) -> list[str]:
    columns = (flows.column(name).to_pylist() for name in _IDENTITY)
    return [
        f"{start or 0}-{number or 0:016x}-{part or 0}"
        for start, number, part in zip(*columns, strict=True)
    ]
