"""Uses the right to capture that the interpreter's file permits (``setcap cap_net_raw=p``).

A program whose file has an *effective* capability does not start at all where the capability is withheld, as in
a container without NET_RAW. One whose file only *permits* it starts everywhere, and takes it when it captures.
Sources: capabilities(7), capset(2).
"""

from __future__ import annotations

import ctypes
from typing import Final

_VERSION_3: Final = 0x20080522
_NET_RAW: Final = 1 << 13


def use_permitted_capture() -> bool:
    """Makes CAP_NET_RAW effective in this thread where it is permitted.

    Returns:
        Whether it is effective now.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "capset"):
        return False
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)  # version, this thread
    # effective, permitted and inheritable capabilities: the lower 32 of each, then the upper
    sets = (ctypes.c_uint32 * 6)()
    if library.capget(header, sets) or not sets[1] & _NET_RAW:
        return False
    sets[0] |= _NET_RAW
    return not library.capset(header, sets)
