"""Finds the captures of a folder that hold a flow's packets, by the name in its record or by time."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from apptell.capture import open_capture
from apptell.errors import CaptureError, OutputError
from apptell.files import readable
from apptell.web.worker_process import CaptureLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from apptell.web.capture_jobs import CaptureSettings
    from apptell.web.kernel_preparation import KernelPreparation

SLACK_NS: Final = 1_000_000
"""Times of the same packets in a record and in a capture can differ by this: many have microseconds."""
_MOST_FILES: Final = 20_000
_MOST_BEFORE: Final = 4
_MOST_CHOSEN: Final = 64


@dataclass(frozen=True, slots=True)
class CaptureFolder:
    """A folder with captures of the flows in a history.

    Raises:
        OutputError: there is no such folder.
    """

    path: Path
    settings: CaptureSettings
    """How their flows are identified again."""
    limits: CaptureLimits = field(default_factory=CaptureLimits)
    say: Callable[[str], None] = print
    """Called with what a process printed before it died."""
    preparation: KernelPreparation | None = None
    """For which flows wait before they are read."""

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise OutputError(f"{self.path}: no such folder of captures")


def find_captures(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """The captures that hold a flow's packets, and some of what came before it, in order.

    A capture with the name that stands in the record is the one. Otherwise they are chosen by time: those that
    began before the flow ended, and were still written when it began. Links are not followed.

    Args:
        folder: with captures at any depth.
        record: of the flow: ``capture``, ``start_ns`` and ``end_ns``.

    Raises:
        CaptureError: there are none.
    """
    files = list(_files(folder))
    name = record["capture"] or ""
    within = [path for path in files if readable(path.relative_to(folder).as_posix()) == name]
    named = within or [path for path in files if readable(path.name) == name]
    if len(named) == 1:
        return [str(named[0])]
    timed = sorted((begun, str(path)) for path in files if (begun := _begun_ns(path, record)))
    before = [each for each in timed if each[0] <= record["start_ns"] + SLACK_NS]
    chosen = [*before[-_MOST_BEFORE:], *timed[len(before) :]][:_MOST_CHOSEN]
    if not before:
        raise CaptureError("no capture in the folder has the packets of this flow")
    return [path for _, path in chosen]


def _files(folder: Path) -> Iterator[Path]:
    """Regular files, hidden ones left out."""
    seen = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            seen += 1
            if seen > _MOST_FILES:
                raise CaptureError(f"the folder of captures has more than {_MOST_FILES:,} files")
            if not name.startswith(".") and stat.S_ISREG(path.lstat().st_mode):
                yield path


def _begun_ns(path: Path, record: Mapping[str, Any]) -> int:
    """The time of a capture's first packet; 0 for one that cannot hold the flow, or is no capture."""
    try:
        if path.stat().st_mtime_ns < record["start_ns"] - SLACK_NS:
            return 0
        with open_capture(path, batch_packets=1) as reader:
            begun_ns = int(next(reader).time_ns[0])
    except (CaptureError, OSError, StopIteration):
        return 0
    return begun_ns if begun_ns <= record["end_ns"] + SLACK_NS else 0
