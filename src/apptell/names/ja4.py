"""Computes JA4 TLS client fingerprints from the parts of ClientHello messages.

Source: the published JA4 specification (technical details of JA4, version 0.18 or later): ten readable
characters, then SHA-256 cut to twelve characters over the sorted ciphers, and over the sorted extensions
and the signature algorithms in their own order. GREASE is left out.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from apptell.flows.plain_columns import Coded

if TYPE_CHECKING:
    from apptell.flows.plain_columns import Text

_EMPTY: Final = "000000000000"
_FEW: Final = 512
"""Hellos from which it takes less time to find those that are alike first."""


@lru_cache(maxsize=1 << 16)
def fingerprint(part: bytes) -> str:
    """JA4 of one hello.

    Args:
        part: ten characters, the numbers of ciphers and of extensions (u16), then the sorted ciphers, the
            sorted extensions without server_name and ALPN, and the signature algorithms (u16 each).
    """
    n_ciphers, n_extensions = struct.unpack_from(">2H", part, 10)
    codes = [code.hex() for code in _pairs(part[14:])]
    ciphers = ",".join(codes[:n_ciphers])
    extensions = ",".join(codes[n_ciphers : n_ciphers + n_extensions])
    algorithms = ",".join(codes[n_ciphers + n_extensions :])
    # without signature algorithms the string ends without an underscore
    second = f"{extensions}_{algorithms}" if algorithms else extensions
    return f"{part[:10].decode('ascii')}_{_cut_hash(ciphers)}_{_cut_hash(extensions and second)}"


def fingerprints(parts: Text) -> Coded | list[str | None]:
    """JA4 of n hellos; distinct inputs are hashed once; None for those that are empty.

    Args:
        parts: as ``fingerprint`` takes them.
    """
    if len(parts.ends) <= _FEW:
        return [fingerprint(part) if part else None for part in parts.parts()]
    distinct = parts.to_arrow(pa.binary()).dictionary_encode()
    found = [fingerprint(part) for part in distinct.dictionary.to_pylist()]
    return Coded(distinct.indices.fill_null(-1).to_numpy(zero_copy_only=False), found)


def _pairs(data: bytes) -> list[bytes]:
    return [data[at : at + 2] for at in range(0, len(data), 2)]


def _cut_hash(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:12] if text else _EMPTY
