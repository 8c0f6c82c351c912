"""Combines apps that share their servers into one provider.

Teams and the consumer Skype are both served by Microsoft's ``*.skype.com`` hosts; some of their flows cannot
be distinguished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PROVIDERS: Final = {"skype": "microsoft", "teams": "microsoft"}
"""The provider of apps that share servers with another; any other app is its own provider."""


def shares_a_provider(apps: Sequence[str]) -> bool:
    """Whether two of these apps have one provider."""
    return len(set(map(provider_of, apps))) < len(set(apps))


def provider_of(app: str) -> str:
    """The provider of an app."""
    return PROVIDERS.get(app, app)


def by_provider(
    probabilities: NDArray[np.float32], apps: Sequence[str]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Probabilities of providers: the sum over a provider's apps.

    Args:
        probabilities: shape (n, k).
        apps: the k apps.

    Returns:
        Probabilities of shape (n, p), and the p providers, sorted.
    """
    providers = tuple(sorted({provider_of(app) for app in apps}))
    summed = np.zeros((len(probabilities), len(providers)), dtype=np.float32)
    for column, app in enumerate(apps):
        summed[:, providers.index(provider_of(app))] += probabilities[:, column]
    return summed, providers
