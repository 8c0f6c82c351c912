"""Numbers names and what owns them; the catalogue is asked once about each name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.verdicts.identity import NOBODY, SHARED, UNLISTED, Identity, IdentityTable
from apptell.verdicts.known_names import KnownNames
from apptell.verdicts.memory_kernel import UNASKED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.catalogue import Catalogue
    from apptell.flows.hashing import HashKey

ECH_PUBLIC_NAMES: Final = frozenset(
    {
        "cloudflare-ech.com",  # Cloudflare's customers
        "crypto.cloudflare.com",  # Cloudflare's test
        "cover.defo.ie",  # the DEfO project's test
        "public.tls-ech.dev",  # a public test
    }
)
"""Outer server names of Encrypted Client Hello that are known to hide other names."""
SHARED_OWNER: Final = 0
"""The number of ``identity.SHARED``."""
_OWN, _ASKED = 0, 1


class NameOwners:
    """Numbers of names, and of the identities that own them.

    Args:
        catalogue: which app or service a name belongs to.
        secret: key of the hashes.
    """

    def __init__(self, catalogue: Catalogue, secret: HashKey) -> None:
        self.names = KnownNames(secret)
        self._catalogue = catalogue
        self._table = IdentityTable([SHARED])
        self._owners = np.full((2, 1), NOBODY, np.int32)
        """Owner of each name, as a flow's own and as one that was asked; in the last place, of no name."""

    @property
    def identities(self) -> list[Identity]:
        """All that were met, by number."""
        return self._table.identities

    def of_own(self, column: Any, n: int | None = None) -> NDArray[np.int32]:
        """The owners of n flows' own names, shape (n,); NOBODY for none and for one that hides others."""
        return self._of(self.names.numbers(column, n), _OWN)

    def of(self, numbers: NDArray[Any]) -> NDArray[np.int32]:
        """The owners of the names with these numbers; NOBODY for none."""
        return self._of(numbers, _ASKED)

    @property
    def of_asked(self) -> NDArray[np.int32]:
        """The owner of each name as one that was asked, by number; NOBODY for none, or UNASKED."""
        self._make_room()
        owners: NDArray[np.int32] = self._owners[_ASKED]
        return owners

    def keep(
        self, names: NDArray[np.int32], identities: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Forgets all but these names, these identities and the names' owners; all their new numbers."""
        self._make_room()
        owners = self._owners[:, names]
        new_names = self.names.keep(names)
        kept = np.unique(np.concatenate([[SHARED_OWNER], identities, owners[owners >= 0]]))
        new_identities = np.full(len(self.identities) + 1, NOBODY, np.int32)
        new_identities[kept] = np.arange(len(kept))
        self._table = IdentityTable([self.identities[number] for number in kept.tolist()])
        self._owners = np.full((2, 1), NOBODY, np.int32)
        self._make_room()
        known = np.where(owners >= 0, new_identities[owners], owners)
        self._owners[:, new_names[names]] = known
        return new_names, new_identities

    def _of(self, numbers: NDArray[Any], role: int) -> NDArray[np.int32]:
        self._make_room()
        owners: NDArray[np.int32] = self._owners[role][numbers]
        is_unasked = owners == UNASKED
        if is_unasked.any():
            for number in np.unique(numbers[is_unasked]).tolist():
                name = self.names.name(number)
                host = _host(name)
                is_hiding = host.lower() in ECH_PUBLIC_NAMES
                own = owner = self._table.place(self._identity(name))
                if is_hiding:
                    own = NOBODY
                elif host != name:
                    own = self._table.place(self._identity(host))
                self._owners[:, number] = own, owner
            owners = self._owners[role][numbers]
        return owners

    def _identity(self, name: str) -> Identity | None:
        """What owns a name; None where it is no host name."""
        match = self._catalogue.lookup(name)
        if match.app is not None:
            return Identity(match.app, match.app_name, match.category)
        if match.service is not None:
            return Identity(service=match.service, service_kind=match.kind or UNLISTED)
        return None

    def _make_room(self) -> None:
        """Makes a place for each name; the last stays that of no name."""
        n = self._owners.shape[1]
        if len(self.names) >= n:
            more = np.full((2, max(n, len(self.names) + 1 - n)), UNASKED, np.int32)
            more[:, -1] = NOBODY
            self._owners[:, -1] = UNASKED
            self._owners = np.concatenate([self._owners, more], axis=1)


def _host(name: str) -> str:
    """A name without a port (``host:port`` of HTTP, ``[v6]:port`` included)."""
    head, colon, port = name.rpartition(":")
    return head if colon and port.isdigit() and (":" not in head or head.endswith("]")) else name
