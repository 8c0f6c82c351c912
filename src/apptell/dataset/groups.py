"""Values of groups for each flow, such as source, session, day or domain, to split or count by.

Groups are the map column ``groups`` (source, session, device, ...); day, registered domain and provider
follow from other columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apptell.files import readable
from apptell.names.domains import registered_domain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

NS_PER_DAY: Final = 86_400_000_000_000


def group_values(flows: FlowBatch, name: str) -> NDArray[Any]:
    """The value of one group for every flow, objects of shape (n,); None where a flow has none."""
    column = flows.column("groups")
    if column.null_count == len(column):
        return np.full(len(flows), None, dtype=object)
    found = pc.map_lookup(column, pa.scalar(readable(name)), "first")
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=object)


def group_names(flows: FlowBatch) -> list[str]:
    """Names of all groups that any of the flows has, sorted."""
    keys = flows.column("groups").drop_null()
    return sorted(pc.unique(keys.keys).to_pylist()) if len(keys) else []


def origins(flows: FlowBatch) -> NDArray[np.str_]:
    """Where each flow came from: its source, else its session, else its capture; shape (n,)."""
    source, session = (group_values(flows, name) for name in ("source", "session"))
    capture = flows.numpy("capture")
    found = (s or t or c for s, t, c in zip(source, session, capture, strict=True))
    return np.array([str(value or "(none)") for value in found], dtype=np.str_)


def days(flows: FlowBatch) -> NDArray[Any]:
    """The UTC day of each flow's first packet, ``2024-05-17``, objects of shape (n,)."""
    day = flows.numpy("start_ns").astype(np.int64) // NS_PER_DAY
    return day.astype("datetime64[D]").astype(str).astype(object)


def domains(flows: FlowBatch) -> NDArray[Any]:
    """The registered domain of each flow's server, else its address, objects of shape (n,).

    The name is the server name, else the HTTP host, else the DNS name of the server's address.
    """
    name = servers(flows)
    table = {value: registered_domain(value) or value for value in set(name) if value}
    return np.array([table.get(value) for value in name], dtype=object)


def servers(flows: FlowBatch) -> NDArray[Any]:
    """Each flow's server: its name where one was seen, else its address; objects of shape (n,)."""
    there = set(flows.columns)
    order = ("server_name", "http_host", "dns_name", "server_address")
    columns = [flows.column(name) for name in order if name in there]
    found = columns[0] if len(columns) == 1 else pc.coalesce(*columns)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=object)


def is_late_view(flows: FlowBatch) -> NDArray[np.bool_]:
    """Which rows are late views of connections, and no flows of their own; shape (n,)."""
    if "part_of" not in flows.columns:
        return np.zeros(len(flows), dtype=bool)
    return np.asarray(flows.column("part_of").is_valid().to_numpy(zero_copy_only=False), dtype=bool)


def follow(flows: FlowBatch, rows: NDArray[np.bool_], connections: NDArray[np.uint64]) -> None:
    """Sets ``rows`` of late views by whether their connection is among ascending ones; changes it in place."""
    is_view = is_late_view(flows)
    if is_view.any():
        wanted = np.asarray(flows.column("part_of").fill_null(0), dtype=np.uint64)
        rows[is_view] = np.isin(wanted, connections)[is_view]
