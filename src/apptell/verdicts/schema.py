"""Defines the columns of ``VerdictBatch``, a table of decided flows.

One row is a verdict on one flow. ``app`` is null when no app can be named; ``outcome`` says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, overload

import pyarrow as pa

from apptell.flows.plain_columns import of_rows, to_arrow, to_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SCHEMA_VERSION: Final = 3
OTHER: Final = "other"
"""The class of background traffic; a verdict like any other, not a declined flow."""
EVIDENCE_KINDS: Final = ("name", "dns", "address", "range", "model", "context")
"""The kinds of evidence, strongest first: the flow's own name; a DNS answer to the client; an address that
was reached before under one app; an app's own address range; a model; a model and the client's other
flows.
"""
NAMED: Final = "named"
UNKNOWN: Final = "unknown"
BELOW_THRESHOLD: Final = "below threshold"
UNLEARNED_TRANSPORT: Final = "unlearned transport"
SHARED_SERVICE: Final = "shared service"
UNLISTED_NAME: Final = "unlisted name"
NO_EVIDENCE: Final = "no evidence"
CUT_PAYLOAD: Final = "cut payload"
TOO_FEW: Final = "too few packets"
OVERLOADED: Final = "overloaded"
OUTCOMES: Final = (
    NAMED,
    UNKNOWN,
    BELOW_THRESHOLD,
    UNLEARNED_TRANSPORT,
    SHARED_SERVICE,
    UNLISTED_NAME,
    NO_EVIDENCE,
    TOO_FEW,
    CUT_PAYLOAD,
    OVERLOADED,
)
"""What became of a flow. Only ``named`` comes with an app. The others say why no app is named: the flow looks
like none of the apps that the model learned; the model's confidence was too low; the model never learned the
flow's transport protocol; the flow's name belongs to a service that many apps use; the catalogue does not list
the name; nothing is known of the flow; the same, and it has too few payload packets
for a verdict; a snap length cut the payload, and the model learned from whole packets; there was no time to
identify it."""

NEW_STACK, KNOWN_STACK = "new", "known"
"""Values of ``stack``: whether the model learned from flows with this JA4."""

SCHEMA: Final = pa.schema(
    {
        "start_ns": pa.int64(),  # first packet of the flow
        "community_id": pa.string(),
        "protocol": pa.uint8(),
        "client_address": pa.string(),
        "client_port": pa.uint16(),
        "server_address": pa.string(),
        "server_port": pa.uint16(),
        "app": pa.string(),  # null when no app is named
        "app_name": pa.string(),  # as its vendor writes it; null when the catalogue does not list the app
        "category": pa.string(),  # of the app, such as messaging
        "service": pa.string(),  # the service of a name that names no app; else the registered domain
        "service_kind": pa.string(),  # platform, cdn, sdk, ads, network; unlisted: not in the catalogue
        "evidence": pa.string(),  # one of EVIDENCE_KINDS: what app or service rest on; null for neither
        "best_guess": pa.string(),  # the model's likeliest app, accepted or not
        "confidence": pa.float32(),  # its probability
        "runner_up": pa.string(),
        "runner_up_confidence": pa.float32(),
        "threshold": pa.float32(),
        "payload_packets_seen": pa.int32(),  # what the verdict rests on, at most the model's
        "model": pa.string(),  # name@hash; null when no model was asked
        "outcome": pa.string(),  # one of OUTCOMES
        "end_ns": pa.int64(),  # last packet so far
        "packets_to_server": pa.int64(),
        "packets_to_client": pa.int64(),
        "bytes_to_server": pa.int64(),
        "bytes_to_client": pa.int64(),
        "server_name": pa.string(),  # of TLS, QUIC or DTLS; not a model's input unless the model says so
        "alpn": pa.string(),
        "ja4": pa.string(),
        "http_host": pa.string(),
        "dns_name": pa.string(),  # a name the client had asked for the server's address
        "capture": pa.string(),
        "connection_id": pa.uint64(),
        "part": pa.int32(),
        "label": pa.string(),  # the truth, when the flows carry it
        "revised": pa.bool_(),
        "context_flows": pa.int32(),  # other flows of the client it rests on; null without context
        "p_unknown": pa.float32(),  # share of known flows that look more familiar; null unless requested
        "stack": pa.string(),  # NEW_STACK or KNOWN_STACK; null without a JA4, or where no model knows any
    },
    metadata={"apptell.verdict_schema": str(SCHEMA_VERSION)},
)
"""The columns of a verdict, in the order of its record (``apptell.records.schema``)."""
_KINDS: Final = dict(zip(SCHEMA.names, SCHEMA.types, strict=True))


class Verdict:
    """One verdict for interactive use: a view of one row with the columns as attributes.

    Example:
        >>> verdict = next(apptell.identify("phone.pcap", "model/", evidence="model"))
        >>> verdict.app, verdict.server_name, verdict.outcome
        ('signal', 'signal.example', 'named')
    """

    __slots__ = ("_row",)

    def __init__(self, row: dict[str, Any]) -> None:
        self._row = row

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._row:
            raise AttributeError(f"a verdict has no column {name!r}")
        return self._row[name]

    def __dir__(self) -> list[str]:
        return list(self._row)

    def __repr__(self) -> str:
        guess = f", perhaps {self.best_guess}" if self.best_guess else ""
        app = self.app or f"{self.outcome}{guess}"
        server = self.server_name or f"{self.server_address}:{self.server_port}"
        return f"<Verdict {self.client_address}:{self.client_port} -> {server}: {app}>"

    def to_dict(self) -> dict[str, Any]:
        """Column name to value."""
        return dict(self._row)


class VerdictBatch:
    """Some verdicts: an Arrow record batch with the columns of ``SCHEMA``.

    Example:
        >>> flows = apptell.read_flows("phone.pcap")
        >>> (batch,) = apptell.identify_flows(flows, apptell.load_model("model/"))
        >>> len(batch), batch.column("app").to_pylist()
        (2, ['signal', 'zoom'])
        >>> batch.probabilities.shape
        (2, 2)
    """

    __slots__ = ("_batch", "_columns", "_n", "probabilities")

    def __init__(
        self, batch: pa.RecordBatch, probabilities: NDArray[np.float32] | None = None
    ) -> None:
        if batch.schema.names != SCHEMA.names:
            raise ValueError(f"verdicts: columns are {batch.schema.names}, not {SCHEMA.names}")
        self._batch: pa.RecordBatch | None = batch
        self._columns: dict[str, Any] = {}
        self._n = int(batch.num_rows)
        self.probabilities = probabilities
        """The model's probability of each of its classes, shape (n, k); not a number for flows that evidence
        decided. None where no model was asked."""

    @classmethod
    def of_columns(
        cls,
        columns: dict[str, Any],
        n_verdicts: int,
        probabilities: NDArray[np.float32] | None = None,
    ) -> VerdictBatch:
        """Columns (``flows.plain_columns``) with the names of ``SCHEMA``; those that are not there are null."""
        verdicts = cls.__new__(cls)
        verdicts._batch, verdicts._n = None, n_verdicts  # noqa: SLF001 - its own
        verdicts._columns = columns  # noqa: SLF001 - its own
        verdicts.probabilities = probabilities
        return verdicts

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Verdict]:
        return map(Verdict, self.to_arrow().to_pylist())

    @overload
    def __getitem__(self, row: int) -> Verdict: ...
    @overload
    def __getitem__(self, row: slice) -> VerdictBatch: ...
    def __getitem__(self, row: int | slice) -> Verdict | VerdictBatch:
        if isinstance(row, slice):
            rows = pa.array(range(len(self))[row], pa.int64())
            shares = None if self.probabilities is None else self.probabilities[row]
            return VerdictBatch(self.to_arrow().take(rows), shares)
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        return Verdict(self.to_arrow().slice(row % len(self), 1).to_pylist()[0])

    def __repr__(self) -> str:
        return f"<VerdictBatch of {len(self)} verdicts>"

    def to_arrow(self) -> pa.RecordBatch:
        """The record batch itself."""
        if self._batch is None:
            arrays = [self.column(name) for name in SCHEMA.names]
            self._batch = pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
        return self._batch

    def to_pandas(self) -> pd.DataFrame:
        """A pandas table; needs pandas (``pip install 'apptell[pandas]'``)."""
        table: pd.DataFrame = self.to_arrow().to_pandas()
        return table

    def column(self, name: str) -> pa.Array:
        """One column as an Arrow array."""
        if self._batch is not None:
            return self._batch.column(name)
        array = to_arrow(self._columns.get(name), _KINDS[name], self._n)
        self._columns[name] = array
        return array

    def plain(self, name: str) -> Any:
        """One column as it was made (``flows.plain_columns``)."""
        return self._columns.get(name) if self._batch is None else self._batch.column(name)

    def values(self, name: str) -> list[Any]:
        """One column as Python has its values."""
        return to_list(self.plain(name), self._n)

    def with_columns(self, **columns: Any) -> VerdictBatch:
        """The same verdicts with some columns replaced."""
        kept = {name: self.plain(name) for name in SCHEMA.names}
        return VerdictBatch.of_columns(kept | columns, self._n, self.probabilities)

    def filter(self, keep: NDArray[np.bool_]) -> VerdictBatch:
        """The verdicts where ``keep``, shape (n,), is true; the batch itself when that is all of them."""
        if keep.all():
            return self
        shares = None if self.probabilities is None else self.probabilities[keep]
        if self._batch is not None:
            return VerdictBatch(self._batch.filter(pa.array(keep)), shares)
        kept = {name: of_rows(column, keep, _KINDS[name]) for name, column in self._columns.items()}
        return VerdictBatch.of_columns(kept, int(keep.sum()), shares)
