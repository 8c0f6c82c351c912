"""Flows enter on their way into a dataset; they leave relabelled, masked and anonymised, as asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apptell.dataset.anonymize import Anonymizer, mask_server_names
from apptell.dataset.classes import SYSTEM, SYSTEM_KINDS
from apptell.dataset.services import system_as
from apptell.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from apptell.flows.schema import FlowBatch


@dataclass(frozen=True, slots=True)
class Edits:
    """What is done to every batch before it is written."""

    system: str = SYSTEM
    """What the phone's own traffic is labelled: ``system``, ``other``, or it is left out (``drop``)."""
    mask_names: bool = False
    """Server names and hosts go, from the columns and from payload."""
    anonymizer: Anonymizer | None = None
    """Replaces addresses."""

    @classmethod
    def of(cls, *, system: str, key_file: Path | None, mask_names: bool) -> Edits:
        """From words and a key's file.

        Raises:
            UsageError: no such word, or the file holds no key.
        """
        if system not in SYSTEM_KINDS:
            raise UsageError(f"system {system!r} is none of {', '.join(SYSTEM_KINDS)}")
        return cls(system, mask_names, None if key_file is None else Anonymizer.from_file(key_file))

    @property
    def applied(self) -> list[str]:
        """A line for each thing that is done, as ``dataset.json`` keeps it; none when nothing is."""
        lines = []
        if self.system != SYSTEM:
            lines.append(f"system traffic: {self.system}")
        if self.mask_names:
            lines.append("server names, HTTP hosts and DNS names removed, and zeroed in payload")
        if self.anonymizer is not None:
            lines.append(
                "addresses replaced, prefixes kept (Crypto-PAn); link-layer addresses dropped"
            )
        return lines

    def __call__(self, flows: FlowBatch) -> FlowBatch:
        """The flows, edited."""
        if self.system != SYSTEM:
            flows = system_as(flows, self.system)
        if self.mask_names:
            flows = mask_server_names(flows)
        return flows if self.anonymizer is None else self.anonymizer(flows)
