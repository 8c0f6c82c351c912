"""Takes updates of models from a page: one at a time, each in a process that has a limited time.

What was asked for and what came of it is remembered until the server ends.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from apptell.errors import UsageError
from apptell.web.bounded_process import ProcessLimits, run_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from apptell.web.bounded_process import ProcessEnding

UPDATE_S: Final = 3600.0
"""Seconds that an update may take."""
MEMORY_BYTES: Final = 12 << 30
"""Memory that the process may allocate; training libraries reserve much that they never use."""
FILE_BYTES: Final = 4 << 30
"""Size of one file that it writes."""
MOST_REMEMBERED: Final = 20
_MOST_NOTES: Final = 20
_END_S: Final = 5.0
_NICE: Final = 10


@dataclass(frozen=True, slots=True)
class UpdateTask:
    """An update of one version of a model."""

    shelf: Path
    """Folder of the model's versions in the registry."""
    version: str
    """The version that is updated; it is not changed."""
    add: Sequence[tuple[Path, str]]
    """Folders of candidates, each with the app that it is."""
    memory_bytes: int = MEMORY_BYTES


@dataclass(slots=True)
class ModelUpdate:
    """An update that was asked for."""

    number: int
    task: UpdateTask
    began_ns: int
    state: str = "running"
    """Or ``added``, ``refused``, ``failed``, ``cancelled``."""
    share: float = 0.0
    words: str = "loading the training libraries"
    notes: list[str] = field(default_factory=list)
    fault: str = ""
    result: dict[str, Any] | None = None
    """What ``apptell update --json`` writes, and the new ``version``."""
    is_unwanted: bool = False


class UpdateDesk:
    """Runs updates in processes; a context manager.

    Args:
        say: called with one line for each update that ends.
        limit_s: seconds that one may take.
    """

    def __init__(self, say: Callable[[str], None], limit_s: float = UPDATE_S) -> None:
        self._say, self._limit_s = say, limit_s
        self._lock = threading.Lock()
        self._updates: list[ModelUpdate] = []
        self._n = 0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.updates():
            each.is_unwanted = True
        if self._thread is not None:
            self._thread.join(_END_S)

    def updates(self) -> Sequence[ModelUpdate]:
        """The updates, newest first."""
        with self._lock:
            return self._updates[::-1]

    def begin(self, task: UpdateTask) -> ModelUpdate:
        """Begins an update.

        Raises:
            UsageError: another one runs.
        """
        with self._lock:
            if self._updates and self._updates[-1].state == "running":
                raise UsageError("another update is running; wait for it, or cancel it")
            self._n += 1
            one = ModelUpdate(self._n, task, time.time_ns())
            self._updates = [*self._updates[1 - MOST_REMEMBERED :], one]
            self._thread = threading.Thread(
                target=self._run, args=(one,), name="update", daemon=True
            )
            self._thread.start()
        return one

    def cancel(self, number: int) -> bool:
        """Ends a running update; nothing is written. Returns whether there was one."""
        for each in self.updates():
            if each.number == number and each.state == "running":
                each.is_unwanted = True
                return True
        return False

    def _run(self, one: ModelUpdate) -> None:
        task = one.task
        limits = ProcessLimits(
            self._limit_s, task.memory_bytes, FILE_BYTES, niceness=_NICE, is_strict=False
        )
        job = {
            "shelf": str(task.shelf),
            "version": task.version,
            "add": [(str(folder), app) for folder, app in task.add],
        }
        try:
            ending = run_bounded(
                "apptell.web.update_worker",
                job,
                limits,
                is_unwanted=lambda: one.is_unwanted,
                report=lambda message: _take(one, message),
            )
            if ending.printed:
                self._say(ending.printed)
            one.fault, one.result = self._fault(ending), ending.answer
        except OSError as error:
            one.fault = f"no process for the update: {error.strerror}"
        finally:
            one.share = 1.0
            one.state = _state(one)
        self._say(f"Update {one.number} of {task.shelf.name}: {one.state}")

    def _fault(self, ending: ProcessEnding) -> str:
        """What went wrong; empty where nothing did, or where nobody wanted the update any more."""
        if ending.kind == "late":
            return f"the update took longer than {self._limit_s:g} s"
        if ending.kind == "died":
            return (
                f"the process of the update died (status {ending.status}), perhaps for lack of memory; "
                "standard error of the server has the details"
            )
        return ending.fault


def _take(one: ModelUpdate, message: dict[str, Any]) -> None:
    """Takes a report of the process."""
    if "progress" in message:
        one.share, one.words = float(message["progress"]), str(message["words"])
    else:
        one.notes = [*one.notes, str(message["note"])][-_MOST_NOTES:]


def _state(one: ModelUpdate) -> str:
    if one.fault:
        return "failed"
    if one.result is None:
        return "cancelled" if one.is_unwanted else "failed"
    return "added" if one.result["version"] is not None else "refused"
