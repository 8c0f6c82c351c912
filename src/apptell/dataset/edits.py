"""Edits flows on their way into a dataset: relabels, masks and anonymises them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apptell.dataset.anonymize import Anonymizer
from apptell.dataset.classes import SYSTEM, SYSTEM_KINDS
from apptell.dataset.masking import Policy, mask_payload, without_names
from apptell.dataset.services import system_as
from apptell.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from apptell.flows.schema import FlowBatch


@dataclass(frozen=True, slots=True)
class Edits:
    """The edits of every batch before it is written."""

    system: str = SYSTEM
    """The label of the phone's own traffic: ``system``, ``other``, or ``drop`` to leave it out."""
    mask_names: bool = False
    """Whether server names and hosts are removed from the columns and from payload."""
    anonymizer: Anonymizer | None = None
    """Replaces addresses."""
    keep_plain: bool = False
    """Whether unparsed payload is kept where names or addresses are removed; otherwise it is zeroed."""

    @classmethod
    def of(
        cls, *, system: str, key_file: Path | None, mask_names: bool, keep_plain: bool = False
    ) -> Edits:
        """Creates edits from option values and a key file.

        Raises:
            UsageError: a value is not known, or the file does not hold a key or is not private.
        """
        if system not in SYSTEM_KINDS:
            raise UsageError(f"system {system!r} is not one of {', '.join(SYSTEM_KINDS)}")
        anonymizer = None if key_file is None else Anonymizer.from_file(key_file)
        return cls(system, mask_names, anonymizer, keep_plain)

    @property
    def applied(self) -> list[str]:
        """A line for each edit, as ``dataset.json`` keeps it; empty if there are none."""
        lines = []
        if self.system != SYSTEM:
            lines.append(f"system traffic: {self.system}")
        if self.mask_names:
            lines.append("server names, HTTP hosts and DNS names removed")
        if self.anonymizer is not None:
            lines.append(
                "addresses replaced, prefixes kept (Crypto-PAn); link-layer addresses dropped"
            )
        if self.mask_names or self.anonymizer is not None:
            unknown = "kept" if self.keep_plain else "zeroed"
            lines.append(
                "payload of TLS, QUIC, DNS, HTTP and mail reduced to its framing; "
                f"payload that is not understood {unknown}"
            )
        return lines

    def __call__(self, flows: FlowBatch) -> FlowBatch:
        """The flows, edited."""
        if self.system != SYSTEM:
            flows = system_as(flows, self.system)
        if self.mask_names or self.anonymizer is not None:
            policy = Policy(masks_names=self.mask_names, keeps_unknown=self.keep_plain)
            flows = mask_payload(flows, policy)
        if self.mask_names:
            flows = without_names(flows)
        return flows if self.anonymizer is None else self.anonymizer(flows)
