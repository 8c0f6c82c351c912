"""Writes and reads the folder of ``discover``: one folder for each candidate, and a page that lists them.

    FOUND/index.html, found.json
    FOUND/1/candidate.json    size, clients, times, proposed name, evidence
    FOUND/1/card.html         the same, for people
    FOUND/1/rows.zip          encoded flows that ``apptell update --add`` learns from; captures only
    FOUND/1/examples.pcap     the first packets of a few flows; captures only

Folders have numbers as names, so that no text from traffic becomes part of a path.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell._version import __version__
from apptell.encoding import encoding_of
from apptell.errors import DatasetError, ModelError
from apptell.files import PRIVATE, new_folder, open_without_links, write_file
from apptell.models.training_rows import LARGEST_FILE, Encoded, TrainingRows, holds_payload
from apptell.templates import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apptell.models import Model
    from apptell.watch.candidates import AppCandidate
    from apptell.watch.traffic import WatchedTraffic

CANDIDATE_FILE: Final = "candidate.json"
ROWS_FILE: Final = "rows.zip"
EXAMPLES_FILE: Final = "examples.pcap"
FOUND_FILE: Final = "found.json"
FORMAT: Final = 1
_LARGEST_JSON: Final = 1 << 20
_LARGEST_FOUND: Final = 16 << 20
_LARGEST_EXAMPLES: Final = 64 << 20
_MOST_CANDIDATES: Final = 500
_MOST_SHOWN: Final = 60
"""Values of evidence and guesses that are read of a candidate."""
_LONGEST: Final = 256
_LARGEST_COUNT: Final = 1 << 53
_LARGEST_LIFT: Final = 1e300
_TEMPLATES: Final = Path(__file__).parent


def write_found(
    path: Path,
    model: Model,
    traffic: WatchedTraffic,
    candidates: Sequence[AppCandidate],
    examples: Mapping[int, bytes],
) -> None:
    """Writes the folder, whole or not at all.

    Args:
        path: the folder, which must not exist.
        model: the model that did not know the flows.
        traffic: where the candidates are.
        candidates: what was found.
        examples: the content of a capture by the number of a candidate.

    Raises:
        OutputError: it exists, or cannot be written.
    """
    name = f"{model.name}@{model.hash}"
    facts = [{"format": FORMAT, "model": name, **each.to_json()} for each in candidates]
    strange = int(traffic.is_strange.sum())
    with new_folder(path) as fresh:
        for one, about in zip(candidates, facts, strict=True):
            folder = fresh / str(one.number)
            folder.mkdir()
            write_file(folder / CANDIDATE_FILE, _json(about), mode=PRIVATE)
            card = render(
                _TEMPLATES / "card.html",
                one=one,
                model=name,
                version=__version__,
                has_examples=one.number in examples,
            )
            write_file(folder / "card.html", card, mode=PRIVATE)
            rows = rows_of(model, traffic, one)
            if rows is not None:
                write_file(folder / ROWS_FILE, rows.to_bytes(), mode=PRIVATE)
            if one.number in examples:
                write_file(folder / EXAMPLES_FILE, examples[one.number], mode=PRIVATE)
        page = render(
            _TEMPLATES / "found.html",
            candidates=candidates,
            model=name,
            flows=len(traffic),
            strange=strange,
            version=__version__,
        )
        write_file(fresh / "index.html", page, mode=PRIVATE)
        listed = {"model": name, "flows": len(traffic), "strange": strange, "candidates": facts}
        write_file(fresh / FOUND_FILE, _json(listed), mode=PRIVATE)


def rows_of(model: Model, traffic: WatchedTraffic, one: AppCandidate) -> TrainingRows | None:
    """The rows of a candidate; None for records, and for models on payload, whose inputs are never kept."""
    info = model.info
    if traffic.inputs is None or traffic.lengths is None or holds_payload(info["inputs"]):
        return None
    rows = one.rows
    clients = np.unique(traffic.clients[rows], return_inverse=True)[1].astype(np.int64)
    times = traffic.times_ns[rows]
    return TrainingRows(
        Encoded(info["inputs"], encoding_of(info["inputs"]).version, info["options"], 0),
        traffic.inputs[rows],
        np.array([one.name] * len(rows), dtype=np.str_),
        traffic.lengths[rows],
        clients,
        clients,
        times - times.min(),
        np.array([ja4 or "" for ja4 in traffic.table["ja4"].take(rows).to_pylist()], dtype=np.str_),
        clients,
    )


def read_candidate(folder: Path) -> tuple[dict[str, Any], TrainingRows]:
    """What ``candidate.json`` says, and the rows.

    Raises:
        DatasetError: it is no candidate's folder, it is damaged, or it has no rows because it came from
            records.
    """
    about = _read(folder / CANDIDATE_FILE, _LARGEST_JSON)
    try:
        facts = json.loads(about)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{folder / CANDIDATE_FILE}: not valid JSON") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise DatasetError(f"{folder / CANDIDATE_FILE}: not a candidate of this version")
    if not (folder / ROWS_FILE).exists():
        raise DatasetError(
            f"{folder}: has no {ROWS_FILE}: candidates from records cannot be learned; discover them from "
            "captures"
        )
    try:
        rows = TrainingRows.from_bytes(
            _read(folder / ROWS_FILE, LARGEST_FILE), str(folder / ROWS_FILE)
        )
    except ModelError as error:
        raise DatasetError(str(error)) from error
    return facts, rows


def read_found(folder: Path) -> dict[str, Any]:
    """What ``found.json`` says, in the form that ``write_found`` gives it; other parts are left out.

    Returns:
        ``model``, ``flows``, ``strange`` and ``candidates``; each of these also has ``has_rows`` and
        ``has_examples``.

    Raises:
        DatasetError: it is no folder of candidates, or it is damaged.
    """
    place = folder / FOUND_FILE
    try:
        found = json.loads(_read(place, _LARGEST_FOUND))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{place}: not valid JSON") from error
    listed = found.get("candidates") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise DatasetError(f"{place}: not a list of candidates")
    candidates = [_candidate(folder, each) for each in listed[:_MOST_CANDIDATES]]
    return {
        "model": _text(found.get("model")),
        "flows": _count(found.get("flows")),
        "strange": _count(found.get("strange")),
        "candidates": [each for each in candidates if each is not None],
    }


def candidate_folder(folder: Path, number: int) -> Path:
    """The folder of a candidate.

    Raises:
        DatasetError: there is none.
    """
    path = folder / str(number)
    if number < 1 or path.is_symlink() or not path.is_dir():
        raise DatasetError(f"{folder}: no candidate {number}")
    return path


def read_examples(folder: Path) -> bytes:
    """The capture with a few flows of a candidate.

    Raises:
        DatasetError: there is none, or it is too large.
    """
    return _read(folder / EXAMPLES_FILE, _LARGEST_EXAMPLES)


def _candidate(folder: Path, about: Any) -> dict[str, Any] | None:
    """A candidate as ``AppCandidate.to_json`` gives it; None for something else."""
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        return None
    number = _count(about.get("candidate"))
    try:
        own = candidate_folder(folder, number)
    except DatasetError:
        return None
    guesses, evidence = about.get("guesses"), about.get("evidence")
    lifts = [each for each in (evidence if isinstance(evidence, list) else []) if _is_lift(each)]
    return {
        "candidate": number,
        **{name: _text(about.get(name)) for name in ("name", "named_by", "first", "last")},
        **{name: _count(about.get(name)) for name in ("named_flows", "flows", "clients")},
        "known_to_model": about.get("known_to_model") is True,
        "guesses": {
            _text(app): _count(n)
            for app, n in list((guesses if isinstance(guesses, dict) else {}).items())[:_MOST_SHOWN]
        },
        "evidence": [
            {
                "kind": _text(each["kind"]),
                "value": _text(each["value"]),
                "flows": _count(each.get("flows")),
                "others": _count(each.get("others")),
                "lift": float(each["lift"]),
            }
            for each in lifts[:_MOST_SHOWN]
        ],
        "has_rows": (own / ROWS_FILE).is_file(),
        "has_examples": (own / EXAMPLES_FILE).is_file(),
    }


def _is_lift(each: Any) -> bool:
    if not isinstance(each, dict) or not {"kind", "value", "lift"} <= each.keys():
        return False
    lift = each["lift"]
    return (
        isinstance(lift, int | float) and not isinstance(lift, bool) and 0 <= lift < _LARGEST_LIFT
    )


def _text(value: Any) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""


def _count(value: Any) -> int:
    is_count = (
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_COUNT
    )
    return value if is_count else 0


def _read(path: Path, largest: int) -> bytes:
    try:
        # without O_NONBLOCK, opening a pipe would wait for its writer
        handle = open_without_links(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            content = stream.read(largest + 1)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from error
    if len(content) > largest:
        raise DatasetError(f"{path}: more than {largest:,} bytes")
    return content


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=True) + "\n"
