"""The catalogue's names of learned apps, as keys of a lookup of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from apptell.catalogue import Catalogue
from apptell.encoding.name_keys import keys_of_name
from apptell.names.domains import registered_domain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_ANY: Final = "*"
"""A row with it stands for many names, which have no common key."""


class CatalogueNames(NamedTuple):
    """Names that the catalogue gives to one of the learned apps."""

    keys: NDArray[np.int64]
    """High and low word of each name's key as one number, shape (n,)."""
    app: NDArray[np.int64]
    """Number of each name's app, shape (n,)."""
    is_domain: NDArray[np.bool_]
    """Whether the key is that of a registered domain, otherwise of a host; shape (n,)."""


def catalogue_names(apps: Sequence[str]) -> CatalogueNames:
    """The names of some apps in the shipped catalogue.

    A registered domain counts with every name below it, any other row only with the very host that it names.

    Args:
        apps: ids of the catalogue, ``app`` or ``app/activity``; others have no names.
    """
    catalogue = Catalogue.load()
    found: dict[int, tuple[int, bool]] = {}
    for number, app in enumerate(apps):
        for row in catalogue.domains_of(app.split("/")[0]):
            if _ANY in row.domain:
                continue
            words = keys_of_name(row.domain)
            is_domain = row.match == "suffix" and registered_domain(row.domain) == row.domain
            high, low = words[2:] if is_domain else words[:2]
            # Activities of one app share its names, which therefore say nothing of the activity.
            found.setdefault((high << 16) | low, (number, is_domain))
    ordered = sorted(found.items())
    return CatalogueNames(
        np.array([key for key, _ in ordered], dtype=np.int64),
        np.array([number for _, (number, _) in ordered], dtype=np.int64),
        np.array([is_domain for _, (_, is_domain) in ordered], dtype=np.bool_),
    )
