"""Encodes the server name of each flow as two 32-bit keys, by which a model looks up what it learned.

The first key stands for the whole host name, the second for its registered domain. A key is a hash of the
name in the form in which names are compared, so a model's file holds no list of the names it learned.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.names.domains import comparable_name, registered_domain
from apptell.names.flow_names import add_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

NAME_KEYS_VERSION: Final = 1
"""Changes whenever the same name gives another key."""
N_KEY_WORDS: Final = 4
"""16-bit words per flow: high and low word of the host's key, then of the domain's."""


def name_keys(flows: FlowBatch) -> NDArray[np.uint16]:
    """Keys of the name that each flow shows: its TLS, QUIC or DTLS server name, otherwise its HTTP host.

    Args:
        flows: n flows with the columns ``server_name`` and ``http_host``, or with the groups ``core`` and
            ``segments``, from which the names are then read.

    Returns:
        uint16, shape (n, 4): high and low word of the host's key, high and low word of the domain's key. A key
        is 0 when the flow shows no name, an address, or (the domain's) a name that nobody registered.
    """
    if not {"server_name", "http_host"} <= set(flows.columns):
        flows = add_names(flows)
    names, hosts = (flows.column(name).to_pylist() for name in ("server_name", "http_host"))
    keys = [keys_of_name(name or host) for name, host in zip(names, hosts, strict=True)]
    return np.array(keys, dtype=np.uint16).reshape(len(keys), N_KEY_WORDS)


@lru_cache(maxsize=16_384)
def keys_of_name(name: str | None) -> tuple[int, int, int, int]:
    """The four words of a name; 0 where there is no host or no registered domain."""
    if name is None:
        return 0, 0, 0, 0
    host, domain = comparable_name(name), registered_domain(name)
    return (*_words("host", host), *_words("domain", domain))


def _words(kind: str, name: str | None) -> tuple[int, int]:
    """High and low word of the key of a host or a domain; 0, 0 without one."""
    if name is None:
        return 0, 0
    digest = hashlib.blake2b(f"{kind}:{name}".encode(), digest_size=4).digest()
    return int.from_bytes(digest[:2], "big"), int.from_bytes(digest[2:], "big")
