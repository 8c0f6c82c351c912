"""Reads and writes model folders: model.onnx, model.json and README.md.

``model.json`` holds everything besides the weights that a verdict depends on, and their origin. A folder is
written whole or not at all, and read with every part checked.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import ModelError, OutputError
from apptell.files import new_folder
from apptell.models.training_rows import LARGEST_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT: Final = 1
"""Version of the folder's form."""
UNKNOWN_FILE: Final = "unknown.npz"
"""What recognises flows of apps that the model did not learn, where it was trained to."""
ROWS_FILE: Final = "rows.zip"
"""What the model learned from, where that is kept (``training_rows``)."""
FOREST_FILE: Final = "lengths.onnx"
"""The forest on lengths that helps to decide flows of new TLS stacks (``apptell.models.new_stacks``)."""
FILES: Final = (
    *("model.json", "model.onnx", "README.md", "split.jsonl"),
    *(UNKNOWN_FILE, ROWS_FILE, FOREST_FILE),
)
"""Everything that a model's folder holds; ``split.jsonl`` where it was measured on a part of its dataset."""

TRANSPORTS: Final = {"tcp": 6, "udp": 17}
"""The transport protocols that a model can have learned, and their IP protocol numbers."""
_NUMBER = (int, float)
_LARGEST_JSON: Final = 8 << 20
_LARGEST_CARD: Final = 1 << 20
_LARGEST_ONNX: Final = 512 << 20
_LARGEST_UNKNOWN: Final = 64 << 20
MOST_JA4: Final = 20_000
"""TLS fingerprints that a model knows at most."""
_MOST_APPS: Final = 100_000
_LONGEST_NAME: Final = 256
_SMALLEST_FLOOR: Final = 1.1e-38
"""Of probabilities, which are float32: the logarithm of a smaller one is infinite."""
_LARGEST_SUM: Final = 1e15
"""Of the numbers of ``prior``, and of each number of flows."""
_EARLY: Final = 4
"""Numbers of payload packets below the five that a verdict rests on."""
_REQUIRED: Final[dict[str, type | tuple[type, ...]]] = {
    "name": str,  # such as paper-cnn
    "apps": list,  # lower case, sorted: the columns of the probabilities
    "inputs": str,  # name of the encoding
    "encoding": int,  # its version
    "options": dict,  # its options
    "threshold": (*_NUMBER, type(None)),  # confidence below which the model declines
    "calibration": (
        dict,
        type(None),
    ),  # {"temperature": T, "early": [T1 ... T4], "floor": p}, or null
    "data": dict,  # hash of the training data, flows, flows per app
    "seed": int,
    "metrics": dict,
    "versions": dict,  # of the libraries that trained it
    "created": str,  # ISO 8601, UTC
    "onnx_sha256": str,
}


def check_target(path: str | Path, *, replace: bool = False) -> None:
    """Checks that a model may be written to a folder.

    Args:
        path: the folder; one that is missing or empty is always accepted.
        replace: whether an existing model may be replaced.

    Raises:
        OutputError: the folder holds something other than a model, or a model that may not be replaced, or
            files that do not belong to a model.
    """
    path = Path(path)
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_dir() or path.is_symlink():
        raise OutputError(f"{path}: not a folder; choose another place for the model")
    there = {entry.name for entry in path.iterdir()}
    if not there:
        return
    if "model.json" not in there:
        raise OutputError(f"{path}: holds something other than a model; choose another folder")
    if not replace:
        raise OutputError(
            f"{path}: already holds a model; choose another folder or replace it",
            argument="replace",
        )
    if others := sorted(there - set(FILES)):
        raise OutputError(f"{path}: {others[0]} does not belong to a model; move it away first")


def write_model(
    path: str | Path,
    onnx_bytes: bytes,
    info: dict[str, Any],
    card: str,
    *,
    replace: bool = False,
    unknown: bytes | None = None,
    rows: bytes | None = None,
    forest: bytes | None = None,
) -> None:
    """Writes a model folder, whole or not at all.

    Args:
        path: the folder.
        onnx_bytes: the network or trees.
        info: the content of ``model.json``; ``format`` and ``onnx_sha256`` are put in here.
        card: the content of ``README.md``.
        replace: whether an existing model may be replaced; it is unchanged if writing fails.
        unknown: the content of ``unknown.npz``, whose hash ``info["unknown"]`` has; None where there is none.
        rows: the content of ``rows.zip``, whose hash ``info["rows"]`` has; None where none are kept.
        forest: the content of ``lengths.onnx``, whose hash ``info["new_stacks"]`` has; None where there is
            none.

    Raises:
        ModelError: ``info`` is incomplete.
        OutputError: the folder cannot be written, or ``check_target`` refuses it.
    """
    path = Path(path)
    digest = hashlib.sha256(onnx_bytes).hexdigest()
    info = {"format": FORMAT, **info, "onnx_sha256": digest}
    _check(info, path)
    check_target(path, replace=replace)
    text = json.dumps(info, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def may_replace(old: Path) -> bool:
        check_target(old, replace=replace)
        return True

    with new_folder(path, may_replace=may_replace) as fresh:
        (fresh / "model.onnx").write_bytes(onnx_bytes)
        (fresh / "model.json").write_text(text, encoding="utf-8")
        (fresh / "README.md").write_text(card, encoding="utf-8")
        if unknown is not None:
            (fresh / UNKNOWN_FILE).write_bytes(unknown)
        if rows is not None:
            (fresh / ROWS_FILE).write_bytes(rows)
        if forest is not None:
            (fresh / FOREST_FILE).write_bytes(forest)


def read_info(path: str | Path) -> dict[str, Any]:
    """The checked content of ``model.json``; the other files are not read.

    Raises:
        ModelError: it is missing, of another version, or damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder")
    if not (path / "model.json").exists():
        place = path if path.name else path.absolute()  # "." alone says nothing
        raise ModelError(f"{place}: not a model folder: it has no model.json")
    try:
        info: dict[str, Any] = json.loads(
            _read(path / "model.json", _LARGEST_JSON), parse_constant=_refuse_constant
        )
        json.dumps(
            info, ensure_ascii=False
        ).encode()  # half a character would break whatever writes it
    except UnicodeEncodeError as error:
        raise ModelError(f"{path / 'model.json'}: not text: {error.reason}") from error
    except ValueError as error:
        raise ModelError(f"{path / 'model.json'}: not valid JSON: {error}") from error
    except RecursionError:
        raise ModelError(f"{path / 'model.json'}: nested too deeply") from None
    _check(info, path / "model.json")
    return info


def read_card(path: str | Path) -> str:
    """The content of ``README.md``, empty where there is none of at most 1 MiB."""
    try:
        return _read(Path(path) / "README.md", _LARGEST_CARD).decode("utf-8", "replace")
    except ModelError:
        return ""


def read_model(path: str | Path) -> tuple[dict[str, Any], bytes]:
    """The content of ``model.json`` and the bytes of ``model.onnx``, both checked.

    Raises:
        ModelError: a file is missing, of another version, or damaged.
    """
    path = Path(path)
    info = read_info(path)
    onnx_bytes = _read(path / "model.onnx", _LARGEST_ONNX)
    if hashlib.sha256(onnx_bytes).hexdigest() != info["onnx_sha256"]:
        raise ModelError(f"{path / 'model.onnx'}: its SHA-256 is not the one in model.json")
    return info, onnx_bytes


def hash_of(info: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that change with anything a verdict depends on.

    Args:
        info: the checked content of ``model.json``.
    """
    keys = ("onnx_sha256", "apps", "inputs", "encoding", "options", "threshold", "calibration")
    values = [info[key] for key in keys]
    if "unknown" in info:
        values.append(info["unknown"]["sha256"])
    if "new_stacks" in info:
        about = info["new_stacks"]
        values.append([about.get("sha256"), about["share"], about["temperature"]])
        values.append(info.get("learned", {}).get("ja4"))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def read_unknown(path: str | Path, info: Mapping[str, Any]) -> bytes | None:
    """The content of ``unknown.npz``; None where the model was trained without it.

    Args:
        path: the model's folder.
        info: the checked content of its ``model.json``.

    Raises:
        ModelError: the file is missing, or another one than ``model.json`` names.
    """
    return _read_named(path, info, "unknown", UNKNOWN_FILE, _LARGEST_UNKNOWN)


def read_rows(path: str | Path, info: Mapping[str, Any]) -> bytes | None:
    """The content of ``rows.zip``; None where the model was trained without keeping rows.

    Args:
        path: the model's folder.
        info: the checked content of its ``model.json``.

    Raises:
        ModelError: the file is missing, or another one than ``model.json`` names.
    """
    return _read_named(path, info, "rows", ROWS_FILE, LARGEST_FILE)


def read_forest(path: str | Path, info: Mapping[str, Any]) -> bytes | None:
    """The content of ``lengths.onnx``; None where the model has no such forest.

    Args:
        path: the model's folder.
        info: the checked content of its ``model.json``.

    Raises:
        ModelError: the file is missing, or another one than ``model.json`` names.
    """
    if "sha256" not in info.get("new_stacks", {}):
        return None
    return _read_named(path, info, "new_stacks", FOREST_FILE, _LARGEST_ONNX)


def _read_named(
    path: str | Path, info: Mapping[str, Any], key: str, name: str, largest: int
) -> bytes | None:
    """A file whose hash ``model.json`` has under a key; None where it has none."""
    if key not in info:
        return None
    place = Path(path) / name
    content = _read(place, largest)
    if hashlib.sha256(content).hexdigest() != info[key]["sha256"]:
        raise ModelError(f"{place}: its SHA-256 is not the one in model.json")
    return content


def _read(path: Path, largest: int) -> bytes:
    """The content of a regular file of at most ``largest`` bytes."""
    # without O_NONBLOCK, opening a pipe would wait for its writer
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"{path}: not a regular file")
            if status.st_size > largest:
                raise ModelError(f"{path}: {status.st_size:,} bytes; at most {largest:,} are read")
            return stream.read(largest)
    except FileNotFoundError:
        raise ModelError(f"{path}: the file is missing") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ModelError(f"{path}: a symbolic link, not a regular file") from error
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _check(info: Any, place: Path) -> None:
    """The form of ``model.json``, key by key."""
    if not isinstance(info, dict):
        raise ModelError(f"{place}: not an object")
    if info.get("format") != FORMAT:
        raise ModelError(
            f"{place}: format {info.get('format')!r}, this version of apptell reads {FORMAT}"
        )
    for key, kind in _REQUIRED.items():
        if key not in info:
            raise ModelError(f"{place}: {key!r} is missing")
        if not isinstance(info[key], kind) or isinstance(info[key], bool):
            raise ModelError(f"{place}: {key!r} is {info[key]!r}")
    apps = info["apps"]
    if len(apps) < 2 or not all(isinstance(app, str) and app == app.lower() for app in apps):
        raise ModelError(f"{place}: 'apps' is {apps!r}, not two or more names in lower case")
    if len(apps) > _MOST_APPS or max(map(len, apps)) > _LONGEST_NAME:
        raise ModelError(
            f"{place}: more than {_MOST_APPS:,} apps, or a name longer than {_LONGEST_NAME} characters"
        )
    if apps != sorted(set(apps)):
        raise ModelError(f"{place}: 'apps' is {apps!r}, not sorted or not unique")
    threshold = info["threshold"]
    if threshold is not None and not 0 <= threshold <= 1:
        raise ModelError(f"{place}: 'threshold' is {threshold!r}, not between 0 and 1")
    _check_learned(info.get("learned", {}), place)
    for key, name in (("unknown", UNKNOWN_FILE), ("rows", ROWS_FILE)):
        about = info.get(key, {"sha256": ""})
        if not isinstance(about, dict) or not isinstance(about.get("sha256"), str):
            raise ModelError(f"{place}: {key!r} has no hash of {name}")
    if "new_stacks" in info:
        _check_new_stacks(info["new_stacks"], place)
    lineage = info.get("lineage", [])
    if not isinstance(lineage, list) or not all(isinstance(each, dict) for each in lineage):
        raise ModelError(f"{place}: 'lineage' is not a list of objects")
    _check_shares("prior", info.get("prior"), apps, place)
    _check_shares("per_app", info["data"].get("per_app"), apps, place)
    calibration = info["calibration"]
    if calibration is not None:
        temperature, early = calibration.get("temperature"), calibration.get("early")
        if not _is_temperature(temperature):
            raise ModelError(f"{place}: 'temperature' is {temperature!r}, not from 1e-6 to 1e6")
        if early is not None and not (
            isinstance(early, list) and len(early) == _EARLY and all(map(_is_temperature, early))
        ):
            raise ModelError(
                f"{place}: 'early' is {early!r}, not {_EARLY} numbers from 1e-6 to 1e6"
            )
        floor = calibration.get("floor", _SMALLEST_FLOOR)
        if not (isinstance(floor, _NUMBER) and _SMALLEST_FLOOR <= floor < 1):
            raise ModelError(
                f"{place}: 'floor' is {floor!r}, not between {_SMALLEST_FLOOR:g} and 1"
            )


def _check_shares(key: str, shares: Any, apps: list[str], place: Path) -> None:
    """A number for each app, or None; at least one of ``prior`` is above 0."""
    if shares is None:
        return
    if not isinstance(shares, dict) or not all(
        isinstance(value, _NUMBER) and not isinstance(value, bool) and 0 <= value < _LARGEST_SUM
        for value in shares.values()
    ):
        raise ModelError(f"{place}: {key!r} is not an object of numbers from 0")
    if key == "prior" and not 0 < sum(shares.get(app, 0) for app in apps) < _LARGEST_SUM:
        raise ModelError(f"{place}: the numbers of 'prior' are 0 for every app, or too large")


def _check_learned(learned: Any, place: Path) -> None:
    """What the model learned from: transports, TLS fingerprints, and what became of server names."""
    if not isinstance(learned, dict):
        raise ModelError(f"{place}: 'learned' is {learned!r}, not an object")
    transports = learned.get("transports", ["tcp"])
    if not (
        isinstance(transports, list)
        and transports
        and all(each in list(TRANSPORTS) for each in transports)
    ):
        raise ModelError(f"{place}: 'transports' is {transports!r}, not a list of tcp and udp")
    share = learned.get("cut_share")
    if share is not None and not (isinstance(share, _NUMBER) and 0 <= share <= 1):
        raise ModelError(f"{place}: 'cut_share' is {share!r}, not between 0 and 1")
    ja4 = learned.get("ja4", [])
    if not (isinstance(ja4, list) and len(ja4) <= MOST_JA4) or not all(
        isinstance(each, str) and len(each) <= _LONGEST_NAME for each in ja4
    ):
        raise ModelError(f"{place}: 'ja4' is not a list of at most {MOST_JA4:,} fingerprints")


def _check_new_stacks(about: Any, place: Path) -> None:
    """How flows of new TLS stacks are decided."""
    numbers = {"share": (0.0, 1.0), "temperature": (1e-6, 1e6), "packets": (1, 32)}
    if not isinstance(about, dict):
        raise ModelError(f"{place}: 'new_stacks' is {about!r}, not an object")
    for key, (low, high) in numbers.items():
        value = about.get(key)
        if not isinstance(value, _NUMBER) or isinstance(value, bool) or not low <= value <= high:
            raise ModelError(f"{place}: {key!r} of 'new_stacks' is not from {low:g} to {high:g}")
    if not isinstance(about["packets"], int) or not isinstance(about.get("sha256", ""), str):
        raise ModelError(
            f"{place}: 'new_stacks' has no number of packets, or no hash of {FOREST_FILE}"
        )
    if (about["share"] > 0) != ("sha256" in about):
        raise ModelError(f"{place}: 'new_stacks' has a share of {FOREST_FILE}, but not the file")


def _is_temperature(value: Any) -> bool:
    return isinstance(value, _NUMBER) and 1e-6 <= value <= 1e6
