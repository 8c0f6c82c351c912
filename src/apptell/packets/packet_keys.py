"""Keys of packets and flows: equal for the packets of a 5-tuple in both directions, and for no others.

A key is the 5-tuple itself in canonical order, so that nobody can choose packets whose keys are equal.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.packets.headers import HEADER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    End = tuple[str, int]
    """An address as text, and a port."""

_KEY: Final = np.dtype(
    [
        *((f"{end}_{half}", ">u8") for end in ("low", "high") for half in ("high", "low")),
        *((f"{end}_port", ">u2") for end in ("low", "high")),
        ("protocol", "u1"),
        ("version", "u1"),
        ("end", "u1"),  # never 0: NumPy ignores zeros at the end of texts
    ]
)
_FIELDS: Final = ("high", "low", "port")


def packet_keys(rows: NDArray[Any], *, has_ports: bool = True) -> NDArray[np.bytes_]:
    """The key of each packet.

    Args:
        rows: shape (n,), dtype ``HEADER``.
        has_ports: whether ports and protocol are part of the key; later fragments have no ports.

    Returns:
        Shape (n,).
    """
    source, target = (
        [rows[f"{side}_{field}"] for field in _FIELDS[: 3 if has_ports else 2]]
        for side in ("source", "target")
    )
    is_swapped = np.zeros(len(rows), dtype=np.bool_)
    is_equal = np.ones(len(rows), dtype=np.bool_)
    for one, other in zip(source, target, strict=True):
        is_swapped |= is_equal & (one > other)
        is_equal &= one == other
    keys = np.zeros(len(rows), dtype=_KEY)
    for field, one, other in zip(_FIELDS, source, target, strict=False):
        keys[f"low_{field}"] = np.where(is_swapped, other, one)
        keys[f"high_{field}"] = np.where(is_swapped, one, other)
    if has_ports:
        keys["protocol"] = rows["protocol"]
    keys["version"] = rows["ip_version"]
    keys["end"] = 1
    return keys.view(f"S{_KEY.itemsize}")


def flow_rows(flows: Sequence[tuple[End, End, int]]) -> NDArray[Any]:
    """Flows as rows for ``packet_keys``.

    Args:
        flows: the two ends and the IP protocol number of each.
    """
    rows = np.zeros(len(flows), dtype=HEADER)
    for row, (*ends, protocol) in zip(rows, flows, strict=True):
        row["protocol"] = protocol
        for side, (text, port) in zip(("source", "target"), ends, strict=True):
            address = ipaddress.ip_address(text)
            row["ip_version"] = address.version
            row[f"{side}_high"], row[f"{side}_low"] = divmod(int(address), 1 << 64)
            row[f"{side}_port"] = port
    return rows


def is_among(keys: NDArray[np.bytes_], known: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Whether each key, shape (n,), is among some in ascending order."""
    if not len(known):
        return np.zeros(len(keys), dtype=np.bool_)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.asarray(known[places] == keys, dtype=np.bool_)
