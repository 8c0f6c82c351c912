"""Runs ``apptell update`` for a page, in a process of its own with bounds on memory and on written files.

It answers in JSON messages: ``progress``, ``note``, and at last ``done`` or ``fault``. The updated model is a
new version in the registry, or nothing was written.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from apptell.errors import ApptellError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

MEMORY_BYTES: Final = 12 << 30
"""Memory that the process may allocate; training libraries reserve much that they never use."""
FILE_BYTES: Final = 4 << 30
"""Size of one file that it writes."""
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


def run_update(task: UpdateTask, pipe: Connection) -> None:
    """Updates a model and adds the result to its shelf; it is not promoted.

    Args:
        task: what to do.
        pipe: gets the messages. When nobody reads them any more, the process ends and writes nothing.
    """
    _bound(task.memory_bytes)

    def tell(**message: Any) -> None:
        pipe.send_bytes(json.dumps(message).encode())

    try:
        tell(done=_updated(task, tell))
    except ApptellError as error:
        tell(fault=str(error))
    except MemoryError:
        tell(fault="the update needs more memory than it may use; run apptell update instead")
    except BrokenPipeError:
        pass  # the server has ended
    finally:
        pipe.close()


def _bound(memory_bytes: int) -> None:
    os.nice(_NICE)
    for kind, most in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):  # a lower limit is set already
            resource.setrlimit(kind, (most, most))


def _updated(task: UpdateTask, tell: Any) -> dict[str, Any]:
    from apptell.experiments.update import update
    from apptell.models.model_shelf import ModelShelf

    shelf = ModelShelf(task.shelf)
    with tempfile.TemporaryDirectory(prefix="apptell-update-") as aside:
        out = Path(aside, "model")
        found = update(
            shelf.path(task.version),
            out=out,
            add=task.add,
            progress=lambda share, words: tell(progress=share, words=words),
            notify=lambda sentence: tell(note=sentence),
        )
        version = None if found.model is None else shelf.add(out)
    return {**found.to_json(), "version": version}
