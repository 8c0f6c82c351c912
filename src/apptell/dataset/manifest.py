"""Reads ``dataset.json`` and checks every key.

A dataset may come from a stranger. What is read here decides which files are opened, how much memory is
taken and what reaches a page: so the size is bounded, every type is checked, shards have plain names, and the
counts agree with each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import DatasetError
from apptell.files import open_without_links
from apptell.flows.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

DATASET_VERSION: Final = 1
"""Version of ``dataset.json`` and of the folder's form."""
INFO_FILE: Final = "dataset.json"
SHARD_NAME: Final = re.compile(r"flows-[0-9]{5,9}-[0-9a-f]{12}\.parquet")
"""The name of a shard: its number and the beginning of its SHA-256."""
MAX_SHARD_FLOWS: Final = 1 << 20
"""Flows of one shard at most; a writer ends a shard far below."""
_MAX_BYTES: Final = 128 << 20
_MAX_COUNT: Final = 2**63 - 1
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_DEFAULTS: Final[dict[str, Any]] = {
    "late_views": 0,
    "label_from": {},
    "dropped": {},
    "done": [],
    "steps": [],
    "encoding": dict.fromkeys(("segments", "segment_bytes", "sequence", "decision_segments"), 0),
    "written_by": "",
    "readme_sha256": "",
}
"""Keys that may be absent."""


def read_info(folder: Path, *, any_version: bool = False) -> dict[str, Any]:
    """``dataset.json`` of a folder, its form and versions checked.

    Args:
        folder: the dataset's.
        any_version: take one that was written by another version, whose shards can be named and not read.

    Raises:
        DatasetError: it is missing, damaged, of another form or of another version.
    """
    file = folder / INFO_FILE
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such dataset")
    try:
        info = json.loads(_read(file))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: not valid JSON: {error}") from error
    if not isinstance(info, dict):
        raise DatasetError(f"{file}: is not an object")
    for key, mine in (("dataset_version", DATASET_VERSION), ("flow_schema", SCHEMA_VERSION)):
        if key not in info:
            raise DatasetError(f"{file}: {key!r} is missing")
        if not any_version and (info[key] != mine or isinstance(info[key], bool)):
            raise DatasetError(
                f"{file}: {key} is {_shown(info[key])}, this version of apptell reads {mine}; build it again"
            )
    info = {**_DEFAULTS, **info}
    check_form(file, info)
    return info


def check_form(file: Path, info: dict[str, Any]) -> None:
    """Checks the type of every key, and that the counts agree with each other.

    Raises:
        DatasetError: something is wrong; the message names ``file`` and the key.
    """
    for key, (check, form) in _FORM.items():
        if key not in info:
            raise DatasetError(f"{file}: {key!r} is missing")
        if not check(info[key]):
            raise DatasetError(f"{file}: {key!r} is not {form}: {_shown(info[key])}")
    _check_counts(file, info)


def dataset_hash(shards: Sequence[dict[str, Any]]) -> str:
    """Computes ``Dataset.hash`` from the shards' SHA-256 and the schema version."""
    digest = hashlib.sha256(f"apptell flows {SCHEMA_VERSION}".encode())
    for shard in shards:
        digest.update(shard["sha256"].encode())
    return digest.hexdigest()


def check_shard_file(folder: Path, shard: dict[str, Any]) -> Path:
    """The path of a shard, which is a regular file of the size that it was written with.

    Raises:
        DatasetError: it is missing, a link or another kind of file, or of another size.
    """
    file = folder / str(shard["file"])
    try:
        found = file.lstat()
    except OSError:
        raise DatasetError(f"{folder}: shard {shard['file']} is missing") from None
    if not stat.S_ISREG(found.st_mode):
        raise DatasetError(f"{file}: is not a regular file")
    if found.st_size != shard["bytes"]:
        raise DatasetError(
            f"{file}: {found.st_size} bytes, but it was written with {shard['bytes']}"
        )
    return file


def _read(file: Path) -> bytes:
    """The bytes of a regular file that is no link, up to a bound."""
    try:
        handle = open_without_links(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise DatasetError(f"{file.parent}: not a dataset ({INFO_FILE} is missing)") from None
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error.strerror}") from error
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):  # before os.fdopen, which refuses a folder
        os.close(handle)
        raise DatasetError(f"{file}: is not a regular file")
    with os.fdopen(handle, "rb") as stream:
        if found.st_size > _MAX_BYTES:
            raise DatasetError(f"{file}: {found.st_size} bytes; at most {_MAX_BYTES} are read")
        return stream.read(_MAX_BYTES)


def _check_counts(file: Path, info: dict[str, Any]) -> None:
    names = [shard["file"] for shard in info["shards"]]
    if len(set(names)) < len(names):
        raise DatasetError(f"{file}: a shard is listed twice")
    for what, total in (
        ("shards", sum(shard["n_flows"] for shard in info["shards"])),
        ("apps", sum(info["apps"].values())),
    ):
        if total != info["n_flows"]:
            raise DatasetError(
                f"{file}: its {what} have {total} flows, and 'n_flows' is {info['n_flows']}"
            )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_COUNT


def _is_text(value: Any) -> bool:
    """Text that UTF-8 can hold: no lone surrogates, which JSON can spell."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_text(name) and _is_count(n) for name, n in value.items()
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and bool(_SHA256.fullmatch(value))


def _is_groups(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_text(name) and _is_counts(counts) for name, counts in value.items()
    )


def _is_shard(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("file"), str)
        and bool(SHARD_NAME.fullmatch(value["file"]))
        and _is_count(value.get("n_flows"))
        and value["n_flows"] <= MAX_SHARD_FLOWS
        and _is_count(value.get("bytes"))
        and _is_hash(value.get("sha256"))
    )


def _is_source(value: Any) -> bool:
    if not (isinstance(value, dict) and _is_text(value.get("name"))):
        return False
    checks: dict[str, Callable[[Any], bool]] = {
        "labels": _is_text,
        "dropped": _is_counts,
        "done": _is_texts,
        "damage": _is_text,
        "n_flows": _is_count,
    }
    wrong = any(key in value and not check(value[key]) for key, check in checks.items())
    return not wrong and (value.get("sha256") == "" or _is_hash(value.get("sha256")))


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


_FORM: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "n_flows": (_is_count, "a number of flows"),
    "late_views": (_is_count, "a number of late views"),
    "hash": (_is_hash, "a SHA-256"),
    "written_by": (_is_text, "text"),
    "apps": (_is_counts, "flows by app"),
    "groups": (_is_groups, "flows by group and value"),
    "label_from": (_is_counts, "flows by ground truth"),
    "dropped": (_is_counts, "flows by reason"),
    "done": (_is_texts, "a list of texts"),
    "steps": (_is_texts, "a list of texts"),
    "encoding": (
        lambda value: _is_counts(value) and set(value) >= set(_DEFAULTS["encoding"]),
        "limits by name",
    ),
    "readme_sha256": (lambda value: value == "" or _is_hash(value), "a SHA-256"),
    "sources": (_list_of(_is_source), "a list of sources"),
    "shards": (_list_of(_is_shard), "a list of shards with plain names, sizes and hashes"),
}
"""What each key holds."""


def _shown(value: Any) -> str:
    """A value in an error message, cut."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
