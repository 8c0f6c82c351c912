"""Identities of flows (an app, a service, or nothing), as codes and as columns of a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from apptell.flows.plain_columns import Coded
from apptell.flows.schema import FlowBatch
from apptell.verdicts.schema import (
    EVIDENCE_KINDS,
    NAMED,
    NO_EVIDENCE,
    OUTCOMES,
    SHARED_SERVICE,
    UNLISTED_NAME,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from apptell.catalogue import Catalogue
    from apptell.verdicts.memory_kernel import Ends

UNLISTED: Final = "unlisted"
"""The kind of a service whose name the catalogue does not list: its registered domain."""
NOBODY: Final = -1
"""The code of a flow without an identity."""


class Identity(NamedTuple):
    """The owner of a name: an app or a service."""

    app: str | None = None
    app_name: str | None = None
    category: str | None = None
    service: str | None = None
    service_kind: str | None = None


class CatalogueApps(Mapping[str, Identity]):
    """The apps of a catalogue by their ids; each identity is made when it is asked for."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._apps = catalogue.apps

    def __getitem__(self, app_id: str) -> Identity:
        app = self._apps[app_id]
        return Identity(app.id, app.name, app.category)

    def __iter__(self) -> Iterator[str]:
        return iter(self._apps)

    def __len__(self) -> int:
        return len(self._apps)


SHARED: Final = Identity()
"""An address that was answered for names of several apps or services."""
_TEXTS: Final = Identity._fields
_NAMED, _SHARED_SERVICE, _UNLISTED_NAME, _NO_EVIDENCE = map(
    OUTCOMES.index, (NAMED, SHARED_SERVICE, UNLISTED_NAME, NO_EVIDENCE)
)


@dataclass(slots=True)
class Found:
    """The evidence on n flows."""

    flows: FlowBatch
    """With ``dns_name``."""
    identities: list[Identity]
    """Those that occur."""
    code: NDArray[np.int32]
    """Place of each flow's identity, shape (n,); -1 where there is none."""
    kind: NDArray[np.int8]
    """Place of its evidence in EVIDENCE_KINDS, shape (n,); -1 where there is none."""
    is_shared: NDArray[np.bool_]
    """Whether the address has names of several apps or services, shape (n,)."""
    start: NDArray[np.int64]
    """Place of each flow's first packet in the order of packets, shape (n,)."""
    ends: Ends | None = None
    """Hashes of the flows' ends; None where they were not kept."""

    @classmethod
    def nothing(cls, flows: FlowBatch, start: NDArray[np.int64] | None = None) -> Found:
        """Flows of which nothing is known."""
        n = len(flows)
        return cls(
            flows,
            [],
            np.full(n, NOBODY, dtype=np.int32),
            np.full(n, NOBODY, dtype=np.int8),
            np.zeros(n, dtype=bool),
            np.array(flows.numpy("start_ns")) if start is None else start,
        )

    def __len__(self) -> int:
        return len(self.code)

    @property
    def is_open(self) -> NDArray[np.bool_]:
        """Whether nothing is known of the flow and its address, shape (n,); earlier flows may decide it."""
        return (self.code < 0) & ~self.is_shared

    @property
    def is_app(self) -> NDArray[np.bool_]:
        """Whether an app is named, shape (n,)."""
        return self._mask([identity.app is not None for identity in self.identities])

    @property
    def is_listed(self) -> NDArray[np.bool_]:
        """Whether it is an app or service of the catalogue, shape (n,)."""
        return self._mask([each.service_kind != UNLISTED for each in self.identities])

    def filter(self, keep: NDArray[np.bool_]) -> Found:
        """Some of the flows."""
        return Found(
            self.flows.filter(keep),
            self.identities,
            self.code[keep],
            self.kind[keep],
            self.is_shared[keep],
            self.start[keep],
        )

    def take(self, rows: NDArray[np.int64]) -> Found:
        """Some of the flows, in the order given."""
        return Found(
            self.flows.take(rows),
            self.identities,
            self.code[rows],
            self.kind[rows],
            self.is_shared[rows],
            self.start[rows],
        )

    @staticmethod
    def concat(parts: Sequence[Found]) -> Found:
        """Several of them as one."""
        if len(parts) == 1:
            return parts[0]
        table = IdentityTable()
        places = [np.array([*map(table.place, part.identities), NOBODY]) for part in parts]
        return Found(
            FlowBatch.concat([part.flows for part in parts]),
            table.identities,
            np.concatenate(
                [place[part.code] for place, part in zip(places, parts, strict=True)]
            ).astype(np.int32),
            np.concatenate([part.kind for part in parts]),
            np.concatenate([part.is_shared for part in parts]),
            np.concatenate([part.start for part in parts]),
        )

    def columns(self) -> dict[str, Coded]:
        """The verdict's columns: app, app_name, category, service, service_kind, evidence, outcome."""
        texts = zip(*self.identities, strict=True) if self.identities else ((),) * len(_TEXTS)
        found = {name: Coded(self.code, each) for name, each in zip(_TEXTS, texts, strict=True)}
        found["evidence"] = Coded(self.kind, EVIDENCE_KINDS)
        outcome = np.full(len(self), _NO_EVIDENCE, dtype=np.int8)
        outcome[self.is_shared] = _SHARED_SERVICE
        outcome[self.code >= 0] = _UNLISTED_NAME
        outcome[self.is_listed] = _SHARED_SERVICE
        outcome[self.is_app] = _NAMED
        found["outcome"] = Coded(outcome, OUTCOMES)
        return found

    def _mask(self, flags: list[bool]) -> NDArray[np.bool_]:
        return np.array([*flags, False], dtype=bool)[self.code]


class IdentityTable:
    """The identities of a batch, each once."""

    def __init__(self, identities: list[Identity] | None = None) -> None:
        self.identities: list[Identity] = [] if identities is None else identities
        self._places = {identity: place for place, identity in enumerate(self.identities)}

    def place(self, identity: Identity | None) -> int:
        """Where an identity stands; -1 for None."""
        if identity is None:
            return NOBODY
        place = self._places.setdefault(identity, len(self.identities))
        if place == len(self.identities):
            self.identities.append(identity)
        return place
