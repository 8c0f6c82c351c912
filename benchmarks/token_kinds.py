"""Finds the kind of field of each token, and gives flows without the tokens of one kind."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.dataset import Dataset, Selection
from apptell.dataset.masking import mask_server_names
from apptell.encoding.structure import N_TOKENS
from apptell.encoding.token_meanings import token_meanings
from apptell.encoding.tokens import N_BUCKETS
from apptell.files import write_file
from real_flows import SIX

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DATASETS: Final = ("messengers", "real-development", "ndpi")
"""Folders that ``real_flows.py`` builds."""
KINDS: Final = (
    ("client hello", "cipher", "cipher list", "extension", "extension list", "ALPN", "server name"),
    ("server hello", "certificate", "handshake message"),
    ("record", "records", "application data"),
    ("turn", "datagram"),
    ("first bytes", "framing", "text"),
)
"""Fields of ``token_meanings`` by kind. The kind of the flow itself (TLS, UDP) is always kept."""


def token_kinds(results: Path) -> NDArray[np.uint8]:
    """The kind of each token from 1, 0 for one that no flow has, shape (65,536,); kept below ``results``.

    A token that fields of several kinds share has the kind that it has in most flows.
    """
    file = results / "token-kinds.npy"
    if not file.exists():
        kind_of = {field: kind for kind, fields in enumerate(KINDS, 1) for field in fields}
        counts = np.zeros((N_BUCKETS, len(KINDS) + 1), dtype=np.int64)
        for name in DATASETS:
            chosen = Selection.of(Dataset.open(results / name))
            labels = [str(each).split("/")[0] for each in chosen.flows.column("label").to_pylist()]
            enough = np.asarray(chosen.flows.payload_packets >= 2)
            for named in chosen.filter(enough & np.isin(labels, SIX)).batches():
                batch = mask_server_names(named)
                for row in range(len(batch)):
                    for each in token_meanings(batch, row).meanings.values():
                        counts[each.token, kind_of.get(each.field, 0)] += 1
        content = io.BytesIO()
        np.save(content, counts.argmax(axis=1).astype(np.uint8))
        write_file(file, content.getbuffer())
    return np.asarray(np.load(file), dtype=np.uint8)


def without_each_kind(rows: NDArray[np.uint16], kinds: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Each flow without its tokens of each kind, shape (n, kinds, width); empty where it has none of them.

    Args:
        rows: tokens and keys of server names, shape (n, width).
        kinds: the kind of each token, shape (65,536,).
    """
    tokens = rows[:, :N_TOKENS]
    found = np.zeros((len(rows), len(KINDS), rows.shape[1]), dtype=np.uint16)
    for kind in range(len(KINDS)):
        dropped = kinds[tokens] == kind + 1
        kept = np.where(dropped, 0, tokens)
        order = np.argsort(kept == 0, axis=1, kind="stable")
        kept = np.take_along_axis(kept, order, axis=1)
        found[:, kind, :N_TOKENS] = np.where(dropped.any(axis=1, keepdims=True), kept, 0)
        found[:, kind, N_TOKENS:] = rows[:, N_TOKENS:]
    return found
