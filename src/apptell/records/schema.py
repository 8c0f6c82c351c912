"""Defines the columns of records, which are the same for every output.

A record is a row of an Arrow record batch. The columns of a verdict's record are those of
``apptell.verdicts.SCHEMA``, in its order: a column added there is in every output. Times become timestamps
in UTC, protocol numbers become names, and probabilities are rounded to six digits.

Each flow that ``live`` decides gives two records: ``verdict`` once its app is known, with what was known at
its deciding payload packet, and ``end`` when the flow has ended, with the same app and the flow's totals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from apptell.flows import schema as flow_schema
from apptell.flows.plain_columns import Coded, Masked, to_arrow, to_list
from apptell.verdicts import schema as verdict_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch
    from apptell.verdicts.schema import VerdictBatch

VERDICT, END = "verdict", "end"
"""The values of ``event``."""
PROTOCOL_NAMES: Final = {6: "tcp", 17: "udp"}
RENAMED: Final = {"start_ns": "time", "end_ns": "end_time"}
"""Columns of a verdict that have another name in its record, where they are timestamps."""
ADDED: Final = (*flow_schema.LINK, "client_name", "sensor")
"""Columns that records have on request, behind the others."""
_TIME: Final = pa.timestamp("ns", tz="UTC")
_SHARE: Final = pa.float64()


def _as_time(values: pa.Array) -> pa.Array:
    return values.view(_TIME)


def _as_name(numbers: Any) -> list[str]:
    return [PROTOCOL_NAMES.get(number, str(number)) for number in to_list(numbers, 0)]


def _as_share(shares: Any) -> Any:
    """Six digits: a float32 .85 would print as 0.8500000238418579."""
    if shares is None:
        return None
    if not isinstance(shares, Masked):
        array = to_arrow(shares, pa.float32(), len(shares))
        numbers = array.fill_null(0).to_numpy(zero_copy_only=False)
        shares = Masked(numbers, np.asarray(array.is_null()))
    return Masked(np.round(shares.numbers.astype(np.float64), 6), shares.is_null)


_Conversion = tuple[pa.DataType, "Callable[[Any], Any] | None"]


def _conversion(field: pa.Field) -> _Conversion:
    """The type of a verdict's column in its record, and how it gets there; ``Records`` makes timestamps."""
    if field.name in RENAMED:
        return _TIME, None
    if field.name == "protocol":
        return pa.string(), _as_name
    if pa.types.is_float32(field.type):
        return _SHARE, _as_share
    return field.type, None


_CONVERSIONS: Final = tuple((field.name, *_conversion(field)) for field in verdict_schema.SCHEMA)

VERDICT_RECORD: Final = pa.schema(
    [pa.field(RENAMED.get(name, name), kind) for name, kind, _ in _CONVERSIONS],
    metadata=verdict_schema.SCHEMA.metadata,
)
"""The columns of a verdict's record, in order."""

LIVE_RECORD: Final = pa.schema(
    [
        pa.field("event", pa.string()),  # VERDICT or END
        *VERDICT_RECORD,
        pa.field("end_reason", pa.string()),  # of flows.schema.END_REASONS; null in a verdict
    ],
    metadata=VERDICT_RECORD.metadata,
)
"""The columns of a live record: ``event``, those of ``identify``, and ``end_reason``."""


class RecordFields:
    """The columns of records; it takes Arrow long to list them.

    Args:
        schema: of the records.
    """

    __slots__ = ("_extended", "kinds", "names", "places", "schema")

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        """As Arrow has it."""
        self.names: tuple[str, ...] = tuple(schema.names)
        """Their names, in order."""
        self.kinds: tuple[pa.DataType, ...] = tuple(schema.types)
        """Their types."""
        self.places = {name: place for place, name in enumerate(self.names)}
        """The place of each name."""
        self._extended: dict[tuple[pa.Field, ...], RecordFields] = {}

    def extended(self, *fields: pa.Field) -> RecordFields:
        """These columns and more behind them."""
        found = self._extended.get(fields)
        if found is None:
            schema = pa.schema([*self.schema, *fields], metadata=self.schema.metadata)
            found = self._extended[fields] = RecordFields(schema)
        return found


class Records:
    """Some records, whose columns become Arrow arrays only where somebody asks for them."""

    __slots__ = ("_columns", "fields", "num_rows")

    def __init__(self, fields: RecordFields, columns: list[Any], n_records: int) -> None:
        self.fields = fields
        """The columns of the records."""
        self.num_rows = n_records
        """The number of records."""
        self._columns = columns

    @property
    def schema(self) -> pa.Schema:
        """The columns of the records, as Arrow has them."""
        return self.fields.schema

    @property
    def plain_columns(self) -> list[Any]:
        """All columns (``flows.plain_columns``), in the order of the schema; timestamps are ns as int64."""
        return self._columns

    def column(self, name: str) -> pa.Array:
        """One column as an Arrow array."""
        return self._array(self.fields.places[name])

    def values(self, name: str) -> list[Any]:
        """One column as Python has its values; timestamps are ns."""
        return to_list(self._columns[self.fields.places[name]], self.num_rows)

    def select(self, names: Sequence[str]) -> pa.RecordBatch:
        """Some columns as an Arrow record batch."""
        return pa.RecordBatch.from_arrays([self.column(name) for name in names], list(names))

    def to_arrow(self) -> pa.RecordBatch:
        """All columns as an Arrow record batch."""
        arrays = [self._array(at) for at in range(len(self._columns))]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _array(self, at: int) -> pa.Array:
        kind = self.fields.kinds[at]
        if kind == _TIME:
            return _as_time(to_arrow(self._columns[at], pa.int64(), self.num_rows))
        array = to_arrow(self._columns[at], kind, self.num_rows)
        self._columns[at] = array
        return array


_VERDICT_FIELDS, _LIVE_FIELDS = RecordFields(VERDICT_RECORD), RecordFields(LIVE_RECORD)


def explained_schema(base: pa.Schema) -> pa.Schema:
    """The columns of records with the reason of each verdict in words."""
    return base.append(pa.field("reason", pa.string()))


def with_reasons(records: pa.RecordBatch, reasons: Sequence[str]) -> pa.RecordBatch:
    """The n records with their n reasons, with the columns of ``explained_schema``."""
    columns = [*records.columns, pa.array(reasons, pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=explained_schema(records.schema))


def verdict_records(verdicts: VerdictBatch) -> pa.RecordBatch:
    """The records of some verdicts, with the columns of ``VERDICT_RECORD``."""
    return Records(_VERDICT_FIELDS, _verdict_columns(verdicts), len(verdicts)).to_arrow()


_FLOW_TIMES: Final = {**RENAMED, "decided_ns": "decided_time"}
"""Columns of flows that are timestamps in the records of ``flows``, under other names."""


def named_like_verdicts(records: pa.RecordBatch) -> pa.RecordBatch:
    """Records of flows with the names and types that verdicts have: times and the transport protocol."""
    columns, fields = [], []
    for field, column in zip(records.schema, records.columns, strict=True):
        name, kind = field.name, field.type
        if name in _FLOW_TIMES:
            name, kind, column = _FLOW_TIMES[name], _TIME, _as_time(column)
        elif name == "protocol":
            kind, column = pa.string(), pa.array(_as_name(column), pa.string())
        columns.append(column)
        fields.append(pa.field(name, kind))
    return pa.RecordBatch.from_arrays(
        columns, schema=pa.schema(fields, metadata=records.schema.metadata)
    )


LINK_FIELDS: Final = tuple(pa.field(name, kind) for name, kind in flow_schema.LINK.items())
"""Columns that the records of all flows have behind those of a verdict."""


def with_link(records: Any, flows: FlowBatch | None) -> Any:
    """Records with the columns ``LINK_FIELDS``.

    Args:
        records: n records, a record batch or ``Records``.
        flows: the flows that they are of, with the group *link*; None for nulls.
    """
    n = records.num_rows
    columns = [None if flows is None else flows.column(each.name) for each in LINK_FIELDS]
    if isinstance(records, Records):
        fields = records.fields.extended(*LINK_FIELDS)
        return Records(fields, [*records.plain_columns, *columns], n)
    schema = pa.schema([*records.schema, *LINK_FIELDS], metadata=records.schema.metadata)
    arrays = [
        to_arrow(column, field.type, n) for column, field in zip(columns, LINK_FIELDS, strict=True)
    ]
    return pa.RecordBatch.from_arrays([*records.columns, *arrays], schema=schema)


def record_schema(*, with_link: bool) -> pa.Schema:
    """The columns of a verdict's record, with LINK_FIELDS behind them or without."""
    if not with_link:
        return VERDICT_RECORD
    return pa.schema([*VERDICT_RECORD, *LINK_FIELDS], metadata=VERDICT_RECORD.metadata)


def probability_schema(schema: pa.Schema, apps: Sequence[str]) -> pa.Schema:
    """The columns of records with ``probability_APP`` for each class of a model behind them."""
    fields = [pa.field(f"probability_{app}", _SHARE) for app in apps]
    return pa.schema([*schema, *fields], metadata=schema.metadata)


def with_probabilities(
    records: pa.RecordBatch, probabilities: NDArray[np.float32] | None, apps: Sequence[str]
) -> pa.RecordBatch:
    """Records with the probability of each class of the model.

    Args:
        records: n records.
        probabilities: of the verdicts that they are of, ``VerdictBatch.probabilities``; None for nulls.
        apps: the k classes of the model that was asked.

    Returns:
        The columns of ``probability_schema``; a probability is null where evidence decided the flow or the
        model was not asked.
    """
    if probabilities is None:
        shares = np.full((records.num_rows, len(apps)), np.nan)
    else:
        shares = probabilities.astype(np.float64)
    columns = [pa.array(np.round(share, 6), from_pandas=True) for share in shares.T]
    return pa.RecordBatch.from_arrays(
        [*records.columns, *columns], schema=probability_schema(records.schema, apps)
    )


def live_records(verdicts: VerdictBatch, event: str, end_reason: pa.Array | None = None) -> Records:
    """The live records of some verdicts, with the columns of ``LIVE_RECORD``.

    Args:
        verdicts: n verdicts.
        event: VERDICT or END.
        end_reason: why each flow ended, shape (n,); None for open flows.
    """
    n = len(verdicts)
    events = Coded(np.zeros(n, dtype=np.int8), (event,))
    reason = None if end_reason is None else end_reason.cast(pa.string())
    return Records(_LIVE_FIELDS, [events, *_verdict_columns(verdicts), reason], n)


def _verdict_columns(verdicts: VerdictBatch) -> list[Any]:
    plain = verdicts.plain
    return [convert(plain(name)) if convert else plain(name) for name, _, convert in _CONVERSIONS]


def flow_record_schema(groups: Sequence[str]) -> pa.Schema:
    """The columns of a flow's record for some column groups: those of the flow schema itself."""
    kinds = {k: v for group in groups for k, v in flow_schema.COLUMNS[group].items()}
    return pa.schema(
        [pa.field(name, kind) for name, kind in kinds.items()],
        metadata=flow_schema.SCHEMA.metadata,
    )


def flow_records(flows: FlowBatch, groups: Sequence[str]) -> pa.RecordBatch:
    """The records of some flows: the columns of some groups, as the flow schema has them."""
    schema = flow_record_schema(groups)
    table = flows.to_arrow()
    there = set(table.schema.names)
    columns = [
        table.column(field.name) if field.name in there else pa.nulls(len(flows), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
