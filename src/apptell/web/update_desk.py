"""Takes updates of models from a page: one at a time, each in a process that has a limited time.

What was asked for and what came of it is remembered until the server ends.
"""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from apptell.errors import UsageError
from apptell.web.update_worker import run_update

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from apptell.web.update_worker import UpdateTask

UPDATE_S: Final = 3600.0
"""Seconds that an update may take."""
MOST_REMEMBERED: Final = 20
_MOST_NOTES: Final = 20
_LOOK_S: Final = 0.2
_MESSAGE_BYTES: Final = 16 << 20
_END_S: Final = 5.0


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
        context = multiprocessing.get_context("spawn")
        own, theirs = context.Pipe(duplex=False)
        process = context.Process(target=run_update, args=(one.task, theirs), daemon=True)
        try:
            process.start()
            theirs.close()
            self._follow(one, process, own)
        except OSError as error:
            one.fault = f"no process for the update: {error.strerror}"
        finally:
            own.close()
            if process.pid is not None:
                process.kill()
                process.join()
            one.share = 1.0
            one.state = _state(one)
        self._say(f"Update {one.number} of {one.task.shelf.name}: {one.state}")

    def _follow(self, one: ModelUpdate, process: BaseProcess, pipe: Connection) -> None:
        """Takes messages until the process has answered, or has to end."""
        until_s = time.monotonic() + self._limit_s
        while not one.is_unwanted:
            if time.monotonic() > until_s:
                one.fault = f"the update took longer than {self._limit_s:g} s"
                return
            if not pipe.poll(_LOOK_S):
                continue
            try:
                message = json.loads(pipe.recv_bytes(_MESSAGE_BYTES))
            except (EOFError, OSError):
                process.join(_END_S)
                one.fault = (
                    f"the process of the update died (status {process.exitcode}), perhaps for lack of "
                    "memory; standard error of the server has the details"
                )
                return
            if "progress" in message:
                one.share, one.words = float(message["progress"]), str(message["words"])
            elif "note" in message:
                one.notes = [*one.notes, str(message["note"])][-_MOST_NOTES:]
            elif "fault" in message:
                one.fault = str(message["fault"])
                return
            else:
                one.result = message["done"]
                return


def _state(one: ModelUpdate) -> str:
    if one.fault:
        return "failed"
    if one.result is None:
        return "cancelled"
    return "added" if one.result["version"] is not None else "refused"
