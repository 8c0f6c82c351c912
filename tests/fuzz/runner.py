"""A target and a seed in, counts of what became of its mutants out; finds are saved, and a run can go on later.

Mutant n depends on the seed and n alone. Processor time is watched: a mutant that takes more than a second,
and does so again alone, is a find of its own kind.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fuzz.target import Files, Target

LONGEST_S = 1.0
"""Processor time that a mutant may take."""
_SAVE_S = 10.0


@dataclass
class Progress:
    """How far a run is."""

    seed: int
    next: int = 0
    """The next mutant."""
    counts: Counter[str] = field(default_factory=Counter)
    """Mutants that were ``fine``, ``refused``, ``found`` (any other exception) or ``slow``."""
    slowest_s: float = 0.0
    """Longest processor time of a mutant, as part of those that ran together."""


def mutant(target: Target, seeds: dict[str, Files], seed: int, number: int) -> tuple[str, Files]:
    """The name of the good input and the spoiled one."""
    rng = random.Random(f"{seed}-{number}")
    name = rng.choice(sorted(seeds))
    files = seeds[name]
    for _ in range(rng.randint(1, 3)):
        files = target.mutate(files, rng)
    return name, files


def run_target(
    target: Target,
    *,
    n_mutants: int,
    seed: int,
    save: Path | None = None,
    seconds: float | None = None,
    report: Callable[[Progress], None] = lambda _progress: None,
    more: dict[str, Files] | None = None,
) -> Progress:
    """Runs mutants up to number ``n_mutants``, from where an earlier run that saved stopped.

    Args:
        target: the kind of input.
        n_mutants: how many in all.
        seed: of the mutants.
        save: folder for finds and for how far the run is.
        seconds: wall time after which to stop.
        report: told how far it is.
        more: good inputs beside the target's own.
    """
    seeds = {**target.seeds(), **(more or {})}
    progress = _load(save, target, seed)
    stop_at = None if seconds is None else time.monotonic() + seconds
    saved_at = time.monotonic()
    while progress.next < n_mutants and (stop_at is None or time.monotonic() < stop_at):
        last = min(progress.next + target.together, n_mutants)
        some = [mutant(target, seeds, seed, number) for number in range(progress.next, last)]
        outcome, took_s = _outcome(target, [files for _, files in some])
        progress.slowest_s = max(progress.slowest_s, took_s / len(some))
        if outcome in ("fine", "refused") and took_s <= LONGEST_S:
            progress.counts[outcome] += len(some)
        else:
            for name, (kind, files) in _one_by_one(target, some, outcome):
                progress.counts[kind] += 1
                if kind in ("found", "slow"):
                    _save_find(save, f"{target.name}-{name}-{seed}-{progress.next}", files)
        progress.next = last
        if time.monotonic() - saved_at > _SAVE_S:
            _store(save, target, progress)
            saved_at = time.monotonic()
        report(progress)
    _store(save, target, progress)
    return progress


def _one_by_one(
    target: Target, some: list[tuple[str, Files]], together: str
) -> Iterator[tuple[str, tuple[str, Files]]]:
    """Name, what became of it and, of a find, what to save, for each of some mutants."""
    n_found = 0
    for number, (name, files) in enumerate(some):
        outcome, took_s = _outcome(target, [files])
        if outcome in ("fine", "refused") and took_s > LONGEST_S:
            outcome, again_s = _outcome(target, [files])  # the machine may have been busy
            took_s = min(took_s, again_s)
        kind = outcome if outcome in ("fine", "refused") else "found"
        said = outcome
        if kind != "found" and took_s > LONGEST_S:
            kind, said = "slow", f"{took_s:.1f} s of processor time\n"
        n_found += kind in ("found", "slow")
        yield f"{name}-{number}", (kind, {**files, "said.txt": said.encode()})
    if not n_found and together not in ("fine", "refused"):
        files = {
            f"{number}-{path}": data
            for number, (_, each) in enumerate(some)
            for path, data in each.items()
        }
        yield "together", ("found", {**files, "said.txt": together.encode()})


def _outcome(target: Target, inputs: list[Files]) -> tuple[str, float]:
    """``fine``, ``refused`` or the traceback of anything else; processor seconds."""
    scratch = Path(tempfile.mkdtemp(prefix="apptell-fuzz-"))
    began = time.process_time()
    try:
        target.run(inputs, scratch)
        outcome = "fine"
    except target.refusals:
        outcome = "refused"
    except Exception:  # noqa: BLE001 - any other exception is what we look for
        outcome = traceback.format_exc()
    took_s = time.process_time() - began
    shutil.rmtree(scratch, ignore_errors=True)
    return outcome, took_s


def _save_find(folder: Path | None, name: str, files: Files) -> None:
    if folder is None:
        return
    for path, data in files.items():
        target = folder / name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _state(folder: Path, target: Target, seed: int) -> Path:
    return folder / f"{target.name}-{seed}.json"


def _load(folder: Path | None, target: Target, seed: int) -> Progress:
    if folder is None or not _state(folder, target, seed).exists():
        return Progress(seed)
    held = json.loads(_state(folder, target, seed).read_text())
    return Progress(seed, held["next"], Counter(held["counts"]), held["slowest_s"])


def _store(folder: Path | None, target: Target, progress: Progress) -> None:
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    held = {"next": progress.next, "counts": progress.counts, "slowest_s": progress.slowest_s}
    path = _state(folder, target, progress.seed)
    path.with_suffix(".part").write_text(json.dumps(held))
    path.with_suffix(".part").replace(path)
