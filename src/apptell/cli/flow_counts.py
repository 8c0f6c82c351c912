"""Counts flows while they are identified, and reports them on stderr."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from apptell.cli.screen import note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from apptell.flows import FlowBatch
    from apptell.records.record_filter import RecordFilter
    from apptell.records.summary import FlowCounts
    from apptell.verdicts import VerdictBatch


def _flow_counts() -> "FlowCounts":
    from apptell.records.summary import FlowCounts

    return FlowCounts()


@dataclass(slots=True)
class Counts:
    """How many flows were read, and what the verdicts on them say."""

    flows: int = 0
    is_all: bool = False
    """Whether every flow was read, and not only those before the output ended."""
    selected: int = 0
    verdicts: "FlowCounts" = field(default_factory=_flow_counts)

    def seen(self, batches: "Iterable[FlowBatch]") -> "Iterator[FlowBatch]":
        """The same flows, counted."""
        try:
            for batch in batches:
                self.flows += len(batch)
                yield batch
        finally:
            self.is_all = True

    def add(self, batch: "pa.RecordBatch") -> None:
        """Counts some verdicts in."""
        self.verdicts.add(batch)

    def chosen(
        self, flows: "FlowBatch", verdicts: "VerdictBatch", wanted: "RecordFilter"
    ) -> "tuple[FlowBatch, VerdictBatch]":
        """The flows and verdicts that a filter selects, counted."""
        from apptell.verdicts import VerdictBatch

        if wanted.is_empty:
            return flows, verdicts
        batch, shares = verdicts.to_arrow(), verdicts.probabilities
        kept = wanted.keep(batch)
        self.selected += int(kept.sum())
        chosen = VerdictBatch(wanted(batch), None if shares is None else shares[kept])
        return flows.filter(kept), chosen

    def note(self, wanted: "RecordFilter") -> None:
        """Reports them on stderr."""
        note(str(self))
        if not wanted.is_empty:
            note(f"The filters select {self.selected:,} of these flows.")

    def __str__(self) -> str:
        total = self.verdicts.total
        if not self.is_all:
            return f"{total:,} flows: {self.verdicts}; the output ended before the capture."
        n_more = self.flows - total
        were = "was" if n_more == 1 else "were"
        return (
            f"{total:,} flows: {self.verdicts}; {n_more:,} more {were} skipped, with "
            "too few payload packets."
        )
