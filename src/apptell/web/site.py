"""What the pages of one server share: the history, the live board, uploads and reports."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import anyio.to_thread

from apptell.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apptell.history.record_history import RecordHistory
    from apptell.web.capture_folder import CaptureFolder
    from apptell.web.guard import Sessions
    from apptell.web.now_views import NowSource
    from apptell.web.report_shelf import ReportShelf
    from apptell.web.update_desk import UpdateDesk
    from apptell.web.upload_desk import UploadDesk

T = TypeVar("T")
MOST_QUESTIONS = 4
"""Questions to histories that are answered at the same time; others wait."""


@dataclass
class Site:
    """The parts of one server; a part that was not asked for is None."""

    sessions: Sessions
    history: RecordHistory | None = None
    feed: NowSource | None = None
    """The live pipeline, or the connection to one in another process."""
    shelf: ReportShelf | None = None
    """The reports of a folder."""
    models: Path | None = None
    """The folder of a registry of models."""
    updates: UpdateDesk | None = None
    """Updates models of the registry."""
    desk: UploadDesk | None = None
    """Takes captures that people send."""
    kept: CaptureFolder | None = None
    """Captures of the flows in the history."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends, so that streams end."""

    def __post_init__(self) -> None:
        self._limiter: anyio.CapacityLimiter | None = None

    async def ask(self, work: Callable[[], T]) -> T:
        """Runs work that takes a while in a thread; not more of it at a time than ``MOST_QUESTIONS``."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(MOST_QUESTIONS)
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)

    def without_places(self, text: str) -> str:
        """A message without the places of folders on this machine: only what is in them is of use to a page."""
        folders = [
            None if self.history is None else self.history.folder.path,
            None if self.shelf is None else self.shelf.folder,
            self.models,
            None if self.kept is None else self.kept.path.absolute(),
            None if self.desk is None else self.desk.folder,
        ]
        for folder in folders:
            if folder is not None and folder != folder.parent:
                text = text.replace(f"{folder}/", "").replace(str(folder), folder.name)
        return text

    def records(self) -> RecordHistory:
        """The history.

        Raises:
            MissingError: the server was started without one.
        """
        if self.history is None:
            raise MissingError("this server shows no history; start it with --records FOLDER")
        return self.history

    def captures(self) -> UploadDesk:
        """The desk that takes captures.

        Raises:
            MissingError: the server was started without one.
        """
        if self.desk is None:
            raise MissingError("this server takes no captures; start it with --upload-size 256MB")
        return self.desk
