"""Takes captures that people drop on a page, has each identified by a process of its own, and forgets them.

Everything of an upload is in a folder of its own below one temporary folder, which only this user can enter. It
is deleted when nobody has asked for the result for a while, when newer ones need its place, when it is removed,
and when the server ends; if the server is killed, when the next one starts.
"""

from __future__ import annotations

import io
import queue
import secrets
import shutil
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from apptell.errors import ApptellError, MissingError, OutputError
from apptell.files import make_folder, open_append
from apptell.history.record_history import RecordHistory
from apptell.web.temporary_folder import TemporaryFolder
from apptell.web.worker_process import CaptureJob, CaptureLimits, run_job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

    from apptell.web.capture_jobs import CaptureSettings
    from apptell.web.kernel_preparation import KernelPreparation

UPLOAD_BYTES: Final = 256_000_000
"""Largest capture that is taken, compressed or not, unless another size is set."""
KEEP_S: Final = 1800.0
"""Seconds after which a result that nobody asks for is deleted."""
MOST_UPLOADS: Final = 8
"""Results that are kept at the same time."""
_NAME_CHARACTERS: Final = 100
_PRIVATE: Final = 0o600
_REAP_S: Final = 5.0
_END_S: Final = 5.0
_MEMORY: Final = "1GB"
_THREADS: Final = 2
RECEIVING, WAITING, READING = "receiving", "waiting", "reading"
DONE, FAILED, REMOVED = "done", "failed", "removed"


@dataclass
class Upload:
    """A capture that was dropped, and what became of it."""

    id: str
    name: str
    """As it was named by its sender, fit for a file and for people."""
    folder: Path
    state: str = RECEIVING
    n_bytes: int = 0
    packets: int = 0
    flows: int = 0
    share: float | None = None
    """Share of the file that was read; None where it is not known."""
    fault: str = ""
    """Why it failed."""
    damage: str = ""
    """Where the capture is damaged; what came before is identified."""
    history: RecordHistory | None = None
    """The records, once it is done."""
    is_removed: threading.Event = field(default_factory=threading.Event)
    touched_s: float = field(default_factory=time.monotonic)

    @property
    def capture(self) -> Path:
        """The file."""
        return self.folder / "capture" / self.name

    @property
    def is_over(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.state in (DONE, FAILED, REMOVED)


class UploadDesk:
    """The captures of one server; a context manager that deletes them all at its end.

    Args:
        settings: how flows are identified.
        limits: of each process that reads a capture.
        most_bytes: of a capture.
        keep_s: seconds for which a result is kept after the last question to it.
        say: called with what a process printed before it died.
        preparation: for which captures wait before they are read.

    Raises:
        OutputError: there is no temporary folder.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        limits: CaptureLimits | None = None,
        most_bytes: int = UPLOAD_BYTES,
        keep_s: float = KEEP_S,
        say: Callable[[str], None] = lambda _: None,
        preparation: KernelPreparation | None = None,
    ) -> None:
        self.settings, self.most_bytes = settings, most_bytes
        self.preparation = preparation
        self.limits = limits or CaptureLimits()
        self.keep_s, self.say = keep_s, say
        self._place = TemporaryFolder()
        self._uploads: dict[str, Upload] = {}
        self._lock = threading.Lock()
        self._waiting: queue.Queue[Upload | None] = queue.Queue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="captures", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._waiting.put(None)
        self._thread.join(_END_S)
        for upload in list(self._uploads.values()):
            self.remove(upload)
        self._place.delete()

    @property
    def folder(self) -> Path:
        """Where uploads are."""
        return self._place.path

    def begin(self, name: str) -> Upload:
        """Begins an upload; the oldest result makes room for it.

        Args:
            name: of the file, as its sender names it.

        Raises:
            OutputError: too many captures are being sent or read; or the folder cannot be made.
        """
        with self._lock:
            while len(self._uploads) >= MOST_UPLOADS:
                over = [each for each in self._uploads.values() if each.is_over]
                if not over:
                    raise OutputError(
                        f"{MOST_UPLOADS} captures are being sent or read; try again in a minute"
                    )
                self._forget(min(over, key=lambda each: each.touched_s))
            number = secrets.token_urlsafe(16)
            upload = Upload(number, safe_name(name), self.folder / number)
            make_folder(upload.capture.parent)
            make_folder(upload.folder / "records")
            self._uploads[number] = upload
            return upload

    def open(self, upload: Upload) -> BinaryIO:
        """A stream to the upload's file."""
        return io.BufferedWriter(io.FileIO(open_append(upload.capture, _PRIVATE), "w"))

    def submit(self, upload: Upload) -> None:
        """Has a capture read that has arrived."""
        upload.state = WAITING
        upload.touched_s = time.monotonic()
        self._waiting.put(upload)

    def find(self, number: str) -> Upload:
        """An upload by its id, which is kept for some more time.

        Raises:
            MissingError: there is none.
        """
        upload = self._uploads.get(number)
        if upload is None:
            raise MissingError(
                f"there is no such result: results are deleted {self.keep_s / 60:g} minutes after they were "
                "last looked at, and when newer ones need their place"
            )
        upload.touched_s = time.monotonic()
        return upload

    def records(self, number: str) -> RecordHistory:
        """The records of an upload.

        Raises:
            MissingError: there is none, or it is not read yet, or could not be read.
        """
        upload = self.find(number)
        if upload.history is None:
            raise MissingError(upload.fault or "the capture is not read yet")
        return upload.history

    def remove(self, upload: Upload) -> None:
        """Deletes an upload and everything of it."""
        with self._lock:
            self._forget(upload)

    def _forget(self, upload: Upload) -> None:
        self._uploads.pop(upload.id, None)
        if upload.state == DONE:
            upload.state = REMOVED
        upload.is_removed.set()  # a process that reads it is killed, and its thread deletes the folder again
        if upload.history is not None:
            upload.history.close()
        shutil.rmtree(upload.folder, ignore_errors=True)

    def expires_s(self, upload: Upload) -> float:
        """Seconds until an upload is deleted, if nobody asks for it."""
        return max(upload.touched_s + self.keep_s - time.monotonic(), 0.0)

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                upload = self._waiting.get(timeout=min(_REAP_S, self.keep_s))
            except queue.Empty:
                pass
            else:
                if upload is not None and not self._closing.is_set():
                    try:
                        self._read(upload)
                    except Exception as error:  # noqa: BLE001 - others can still be read
                        self.say("".join(traceback.format_exception(error)))
                        upload.fault = (
                            "there is a fault in apptell; its standard error has the details"
                        )
                        upload.state = FAILED
            for each in list(self._uploads.values()):
                if each.is_over and not self.expires_s(each):
                    self.remove(each)

    @property
    def is_preparing(self) -> bool:
        """Whether captures wait for kernels that are being compiled."""
        return self.preparation is not None and not self.preparation.is_done

    def _read(self, upload: Upload) -> None:
        if self.preparation is not None:
            self.preparation.wait(lambda: upload.is_removed.is_set() or self._closing.is_set())
        upload.state = READING

        def report(progress: dict[str, Any]) -> None:
            upload.packets, upload.flows = progress["packets"], progress["flows"]
            upload.share = progress["share"]

        job = CaptureJob(
            "identify",
            upload.name,
            [f"capture/{upload.name}"],
            self.settings,
            output="records",
        )
        try:
            answer = self.run(job, upload, report)
            upload.packets, upload.flows = answer["packets"], answer["flows"]
            upload.damage = answer["damage"] or ""
            upload.history = RecordHistory(
                upload.folder / "records", memory=_MEMORY, threads=_THREADS
            )
            upload.state = DONE
        except ApptellError as error:
            upload.fault = str(error)
            shutil.rmtree(upload.folder, ignore_errors=True)  # nobody can ask it anything
            upload.state = FAILED
        upload.touched_s = time.monotonic()
        if upload.is_removed.is_set():
            self.remove(upload)

    def run(
        self,
        job: CaptureJob,
        upload: Upload,
        report: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Runs a job on an upload; see ``run_job``."""
        return run_job(
            job,
            self.limits,
            upload.folder,
            lambda: upload.is_removed.is_set() or self._closing.is_set(),
            report,
            self.say,
        )


def safe_name(name: str) -> str:
    """The name of a file as a sender gave it, without folders and without characters that mean something."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c if c.isalnum() or c in "._- +()" else "_" for c in last)
    while len(kept.encode()) > _NAME_CHARACTERS:
        kept = kept[1:]  # the end tells more
    return kept.strip(" .-") or "capture"
