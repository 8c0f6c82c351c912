"""Identifies a capture and gives the verdicts as one table of a data frame library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa

from apptell.errors import UsageError, needs_extra
from apptell.verdicts.one_by_one import identify
from apptell.verdicts.schema import SCHEMA

FRAMES: Final = ("arrow", "pandas", "polars")
"""Libraries whose tables verdicts and flows can become."""

if TYPE_CHECKING:
    from pathlib import Path

    from apptell.models import Model


def identify_table(
    source: Any,
    model: Model | str | Path | None = None,
    to: Literal["arrow", "pandas", "polars"] = "pandas",
    **options: Any,
) -> Any:
    """The verdicts on all flows of a capture as one table, in order of time.

    Args:
        source: what ``read_flows`` takes.
        model: a model or its folder (default: none).
        to: ``pandas``, ``polars`` or ``arrow``.
        options: further arguments of ``identify``: ``threshold``, ``context``, ``evidence``, ``catalogue``,
            ``transports``, ``unknown``.

    Returns:
        A DataFrame of pandas or polars, or a PyArrow table: one row for each verdict, with the columns of a
        ``VerdictBatch`` and ``time``, the start of the flow in UTC.

    Raises:
        UsageError: no such library.
        MissingError: it is not installed.
        CaptureError: the capture cannot be opened, or is damaged.

    Example:
        >>> table = apptell.identify_table("phone.pcap", "model/", evidence="model")
        >>> table["app"].tolist(), len(table.columns) > 30
        (['signal', 'zoom'], True)
    """
    check_frame(to)
    rows = [verdict.to_dict() for verdict in identify(source, model, **options)]
    table = pa.Table.from_pylist(rows, schema=SCHEMA).sort_by("start_ns")
    time = table.column("start_ns").cast(pa.timestamp("ns", tz="UTC"))
    return as_frame(table.add_column(0, "time", time), to)


def check_frame(to: str) -> None:
    """Refuses a library that is none of ``FRAMES``.

    Raises:
        UsageError: it is none.
    """
    if to not in FRAMES:
        raise UsageError(f"{to!r} is none of {', '.join(FRAMES)}")


def as_frame(table: pa.Table, to: str) -> Any:
    """A PyArrow table as a table of another library.

    Raises:
        MissingError: the library is not installed.
    """
    if to == "arrow":
        return table
    if to == "pandas":
        with needs_extra("pandas", "a table of pandas"):
            import pandas as pd  # noqa: F401 - PyArrow needs it

            return table.to_pandas()
    with needs_extra("polars", "a table of polars"):
        import polars as pl

        return pl.from_arrow(table)
