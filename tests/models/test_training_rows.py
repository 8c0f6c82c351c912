"""Kept rows come back as they were, and a stranger's file is refused within bounds."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zstandard

from apptell.encoding import complete_options
from apptell.errors import ModelError, UsageError
from apptell.models.training_rows import Encoded, TrainingRows, check_same


def rows(n: int = 20, seed: int = 0) -> TrainingRows:
    random = np.random.default_rng(seed)
    return TrainingRows(
        Encoded("lengths", 1, complete_options("lengths", {"packets": 6}), 0),
        random.integers(-1400, 1400, (n, 6)).astype(np.float32),
        np.array(["signal", "zoom"] * (n // 2), dtype=np.str_),
        random.integers(-1400, 1400, (n, 6)).astype(np.float32),
        np.arange(n) % 5,
        np.arange(n) % 7,
        np.arange(n, dtype=np.int64) * 1_000_000_000,
        np.array(["t13d1516h2", ""] * (n // 2), dtype=np.str_),
        np.arange(n) % 3,
    )


def test_rows_come_back_as_they_were() -> None:
    given = rows()
    found = TrainingRows.from_bytes(given.to_bytes(), "m")
    assert found.encoded == given.encoded
    for name in ("inputs", "apps", "lengths", "groups", "clients", "times_ns", "ja4", "devices"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name))
        assert getattr(found, name).dtype.kind == getattr(given, name).dtype.kind
    assert given.to_bytes() == given.to_bytes()


def test_views_and_no_rows_come_back() -> None:
    given = rows()
    viewed = replace(
        given,
        encoded=given.encoded._replace(views=3),
        inputs=np.repeat(given.inputs[:, None], 3, 1),
    )
    assert TrainingRows.from_bytes(viewed.to_bytes(), "m").inputs.shape == (20, 3, 6)
    assert len(TrainingRows.from_bytes(rows(0).to_bytes(), "m")) == 0


def test_groups_of_two_origins_stay_apart() -> None:
    both = TrainingRows.concat([rows(), rows(10, seed=1)])
    assert len(both) == 30
    assert not set(both.groups[:20].tolist()) & set(both.groups[20:].tolist())
    assert not set(both.clients[:20].tolist()) & set(both.clients[20:].tolist())
    other = Encoded("lengths", 1, complete_options("lengths", {"packets": 8}), 0)
    with pytest.raises(UsageError, match="their options are"):
        check_same(rows().encoded, other)


def test_payload_is_not_kept() -> None:
    image = Encoded("image", 1, {}, 0)
    with pytest.raises(UsageError, match="payload bytes"):
        replace(rows(), encoded=image).to_bytes()


def changed(parts: dict[str, Any], method: int = zipfile.ZIP_STORED) -> bytes:
    """The file of some rows with other content of some of its parts."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(rows().to_bytes())) as old:
        there = {name: old.read(name) for name in old.namelist()}
    header = json.loads(there["rows.json"]) | parts.pop("header", {})
    there |= {"rows.json": json.dumps(header).encode(), **parts}
    with zipfile.ZipFile(content, "w", method) as new:
        for name, data in there.items():
            if data is not None:
                new.writestr(name, data)
    return content.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"PK", changed({"inputs.zst": b"no frame"}), changed({"inputs.zst": None}),
        changed({"header": {"flows": 10**9}}), changed({"header": {"flows": 4_000_000}}),
        changed({"header": {"flows": True}}), changed({"header": {"flows": 19}}),
        changed({"header": {"views": 17}}), changed({"header": {"packets": 0}}),
        changed({"header": {"format": 2}}), changed({"header": {"inputs": "image", "options": {}}}),
        changed({"header": {"inputs": "nothing"}}), changed({"header": {"options": {"packets": 9}}}),
        changed({"header": {"options": 3}}), changed({"header": {"apps": ["one"]}}),
        changed({"header": {"apps": ["x" * 300, "y"]}}), changed({"header": {"encoding": 9}}),
        changed({}, zipfile.ZIP_DEFLATED), changed({"rows.json": b"[" * 100_000}),
        changed({"inputs.zst": zstandard.compress(b"\xff" * 480)}),
        changed({"time_ns.zst": zstandard.compress(np.full(20, -1).tobytes())}),
        changed({"inputs.zst": zstandard.compress(bytes(100 << 20))}),
    ],
)  # fmt: skip
def test_what_is_damaged_or_too_large_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"^m: damaged, or not rows of a model"):
        TrainingRows.from_bytes(data, "m")


def test_any_changed_byte_gives_rows_or_an_error() -> None:
    whole = rows().to_bytes()
    random = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        for at in random.integers(len(data), size=3).tolist():
            data[at] = int(random.integers(256))
        try:
            found = TrainingRows.from_bytes(bytes(data), "m")
        except ModelError:
            continue
        assert len(found) <= 20
