"""Says what flows of UDP begin with, and whether other sources of the app begin so: docs/reports/models.md.

    python benchmarks/sources.py CAPTURES -o RESULTS --names masked
    python benchmarks/udp_misses.py CAPTURES -o RESULTS

One line for each app, source and kind of the first payload: by the ranges of its first byte in RFC 7983, and
for STUN (RFC 8489) by its message and attributes. Verdicts are those of ``fast`` when the source is left out,
by provider. RESULTS/udp.json has the figures.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.dataset import Dataset, Selection
from apptell.evaluation.providers import by_provider, provider_of
from apptell.files import write_file

if TYPE_CHECKING:
    from apptell.flows.schema import FlowBatch

PREDICTIONS: Final = (
    "model=fast names=masked seed=0 set= folds=None background=False untouched=False.npz"
)
COOKIE: Final = b"\x21\x12\xa4\x42"
MESSAGES: Final = {1: "binding", 3: "allocate", 0x101: "binding response"}
MICROSOFT: Final = frozenset({0x8008, 0x8036, 0x8037, 0x8055, 0x8070, 0x8095})
"""Attributes of MS-TURN and MS-ICE2."""
RANGES: Final = (
    (4, "STUN without its cookie"), (20, "first byte 4 to 19"), (64, "first byte of DTLS"),
    (80, "TURN channel data"), (128, "first byte 80 to 127"), (192, "RTP or RTCP"),
    (256, "first byte of QUIC's long header"),
)  # fmt: skip


def main() -> None:
    """Counts the kinds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("captures", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    with np.load(given.output / "probabilities" / PREDICTIONS) as file:
        found = {name: file[name] for name in file.files}
    shares, providers = by_provider(found["p"], tuple(found["apps"].tolist()))
    guess = np.array(providers)[shares.argmax(axis=1)].tolist()
    about = {
        key: (app, source, said == provider_of(app))
        for key, app, source, said, protocol in zip(
            found["key"].tolist(), found["app"].tolist(), found["source"].tolist(), guess,
            found["protocol"].tolist(), strict=True,
        )
        if protocol == "17"
    }  # fmt: skip
    kinds: dict[str, str] = {}
    for name in ("messengers", "real-development", "ndpi"):
        for key, kind in read_kinds(given.output / name).items():
            if key in about:
                kinds.setdefault(key, kind)
    n: Counter[tuple[str, str, str]] = Counter()
    right: Counter[tuple[str, str, str]] = Counter()
    for key, kind in kinds.items():
        app, source, is_right = about[key]
        n[app, source, kind] += 1
        right[app, source, kind] += is_right
    rows: list[list[Any]] = []
    for (app, source, kind), flows in sorted(n.items(), key=lambda each: (-each[1], each[0])):
        elsewhere = sum(
            m
            for (a, s, k), m in n.items()
            if provider_of(a) == provider_of(app) and s != source and k == kind
        )
        rows.append([app, source, kind, flows, right[app, source, kind], elsewhere])
    text = json.dumps({"flows": len(kinds), "of": len(about), "rows": rows}, indent=1)
    write_file(given.output / "udp.json", f"{text}\n".encode())


def read_kinds(dataset: Path) -> dict[str, str]:
    """What the flows of UDP of a dataset begin with, by the key of ``real_flows.py``."""
    chosen = Selection.of(Dataset.open(dataset))
    chosen = chosen.filter(chosen.flows.numpy("protocol") == 17)
    columns = ("server_address", "server_port", "client_port", "protocol", "start_ns")
    ends = zip(*(chosen.flows.column(each).to_pylist() for each in columns), strict=True)
    keys = [" ".join(map(str, (*e[:4], e[4] // 10**9))) for e in ends]

    def begin(batch: FlowBatch) -> Any:
        first = (each[0] if each else b"" for each in batch.column("segment_bytes").to_pylist())
        return np.array([kind_of(bytes(each or b"")) for each in first], dtype="U64")

    kinds = chosen.gather(begin, ("core", "segments")).tolist()
    return dict(zip(keys, kinds, strict=True))


def kind_of(payload: bytes) -> str:
    """What a datagram is, by its first bytes."""
    if not payload:
        return "nothing kept"
    if payload[0] < 4 and payload[4:8] == COOKIE:
        message = int.from_bytes(payload[:2], "big")
        attributes, at = set(), 20
        while at + 4 <= len(payload):
            attributes.add(int.from_bytes(payload[at : at + 2], "big"))
            at += 4 + (int.from_bytes(payload[at + 2 : at + 4], "big") + 3) // 4 * 4
        words = f"STUN {MESSAGES.get(message, f'message {message:#06x}')}"
        if attributes & MICROSOFT:
            return f"{words}, Microsoft's attributes"
        if not attributes:
            return f"{words}, no attribute"
        return f"{words}, other attributes"
    return next(words for limit, words in RANGES if payload[0] < limit)


if __name__ == "__main__":
    main()
