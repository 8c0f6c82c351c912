"""The ports that servers listen on: the system ports (RFC 6335) and the registered ones common on phones."""

from __future__ import annotations

from typing import Final

import numpy as np

_REGISTERED: Final = (
    1194, 1433, 1521, 1701, 1723, 1883, 1935, 2049, 2195, 2196, 3128, 3306, 3389, 3478, 3479, 3544,
    4244, 4443, 4500, 4789, 5004, 5060, 5061, 5222, 5223, 5228, 5229, 5230, 5242, 5269, 5280, 5349,
    5353, 5432, 5938, 6379, 6443, 6667, 6697, 7275, 8000, 8008, 8009, 8080, 8081, 8443, 8448, 8883,
    8888, 9000, 9001, 9092, 9443, 14230, 19302, 25565, 27017, 51820, 64738,
)  # fmt: skip

SERVICE_PORTS: Final = np.zeros(65536, dtype=np.bool_)
"""Whether servers listen on a port, shape (65536,)."""
SERVICE_PORTS[:1024] = True
SERVICE_PORTS[list(_REGISTERED)] = True
