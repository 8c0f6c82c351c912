"""Options of the label formats."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from apptell.errors import UsageError
from apptell.labels.join import DEFAULT_TOLERANCE_S
from apptell.labels.naming import NAME_LABELS

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping, Sequence
    from datetime import tzinfo


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """The user's options for ground truth."""

    kind: str | None = None
    """Name of a label format; None recognises it."""
    tolerance_s: float = DEFAULT_TOLERANCE_S
    """How far a log's line may lie from its flow."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Meaning to column name of a label table."""
    zone: tzinfo | None = None
    """The phone's time zone, for logs that do not name theirs."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Lower-case package or title to label."""
    pattern: re.Pattern[str] | None = None
    """A pattern for the names of captures, for the format ``folders``."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Groups of everything, such as ``network=home``."""
    catalogue: Sequence[str] = ()
    """Files with rows that are added to the catalogue of apps, for the format ``names``."""

    def __post_init__(self) -> None:
        """Raises UsageError if an option is given that the format does not use."""
        if self.catalogue and self.kind != NAME_LABELS:
            raise UsageError(f"a catalogue is used only by labels of the kind {NAME_LABELS!r}")

    def wants_late_views(self, views: str | None) -> bool:
        """Whether connections are also kept from later packets.

        Args:
            views: ``late``, ``none``, or None for what fits the labels: labels by names need late views.

        Raises:
            UsageError: another word.
        """
        if views not in (None, "late", "none"):
            raise UsageError(f"views {views!r} are neither 'late' nor 'none'")
        return self.kind == NAME_LABELS if views is None else views == "late"
