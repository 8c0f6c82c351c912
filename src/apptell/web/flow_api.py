"""The endpoints that read a flow's packets once more: why its verdict says what it says, and the packets."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio
import anyio.to_thread
import pyarrow as pa
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from apptell.errors import MissingError
from apptell.files import readable
from apptell.records.schema import PROTOCOL_NAMES, RENAMED, VERDICT, VERDICT_RECORD
from apptell.web.endpoint import UPLOAD, Endpoint
from apptell.web.history_api import connection_of, which_flow
from apptell.web.worker_process import CaptureJob, CaptureLimits, run_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from apptell.history.record_history import RecordHistory
    from apptell.web.capture_jobs import CaptureSettings
    from apptell.web.kernel_preparation import KernelPreparation
    from apptell.web.site import Site

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "Why a verdict says what it says, as apptell explain --format jsonl writes it, and the "
    "first packets of the flow.",
    "properties": {
        "explanation": {"type": "object"},
        "lengths": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "Payload bytes of the first packets: above 0 to the server, below 0 to the client.",
        },
        "picture": {"type": "string", "description": "The paper's 87 x 87 picture, a data URL."},
        "saliency": {
            "type": ["string", "null"],
            "description": "What each byte of it adds, a data URL.",
        },
        "segments": {
            "type": "array",
            "items": {"type": "object"},
            "description": "The first packets' bytes, in lines of cells: hexadecimal, shade and edges, field.",
        },
        "similar": {
            "type": ["object", "null"],
            "description": "The most similar flows of the model's training set, as apptell explain "
            "--similar writes them; null where the model keeps none.",
        },
    },
    "required": ["explanation", "lengths", "picture", "saliency", "segments", "similar"],
}  # fmt: skip
_MOST_AT_ONCE: Final = 1
_MOST_WAITING: Final = 8
_PCAPNG: Final = "application/x-pcapng"
_NUMBERS: Final = {name: number for number, name in PROTOCOL_NAMES.items()}


class FlowApi:
    """The endpoints of one site.

    Args:
        site: with captures that were sent, or a folder of captures.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._limiter: anyio.CapacityLimiter | None = None

    def endpoints(self) -> list[Endpoint]:
        """The addresses of the API."""
        found = []
        for place, own in (("/api", ()), ("/api/uploads/{upload}", (UPLOAD,))):
            which = (*own, *which_flow())
            found += [
                Endpoint(
                    f"{place}/reason",
                    "Why the verdict on a flow says what it says, and its first packets.",
                    self.reason,
                    which,
                    answer="Reason",
                ),
                Endpoint(
                    f"{place}/packets.pcapng",
                    "The packets of a flow, with its verdict as a comment.",
                    self.packets_pcapng,
                    which,
                    content=_PCAPNG,
                ),
            ]
        return found

    async def reason(self, request: Request) -> Response:
        """Why the verdict on a flow says what it says, and its first packets."""
        answer = await self._read(request, "look")
        text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        return Response(text.encode("utf-8", "replace"), media_type="application/json")

    async def packets_pcapng(self, request: Request) -> Response:
        """The packets of a flow, with its verdict as a comment."""
        folder = tempfile.TemporaryDirectory(prefix="apptell-packets-", ignore_cleanup_errors=True)
        try:
            path = Path(folder.name, "flow.pcapng")
            await self._read(request, "extract", str(path))
        except BaseException:
            folder.cleanup()
            raise
        return FileResponse(
            path,
            media_type=_PCAPNG,
            filename="apptell-flow.pcapng",
            background=BackgroundTask(folder.cleanup),
        )

    async def _read(self, request: Request, kind: str, output: str = "") -> dict[str, Any]:
        """Has a process read the flow's captures again."""
        read = self._captures(request)
        records, which = read.records, connection_of(request.query_params)
        batch = await self._site.ask(lambda: records.flow(*which))
        record = _verdict_row(batch)
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_MOST_AT_ONCE)
        if self._limiter.statistics().tasks_waiting >= _MOST_WAITING:
            raise HTTPException(503, "many flows are being read; try again in a minute")
        job = CaptureJob(kind, read.name, read.captures, read.settings, output, read.where, record)
        is_over = _either(read.is_removed, self._site.stopping.is_set)
        return await anyio.to_thread.run_sync(
            lambda: _run(job, read, is_over),
            limiter=self._limiter,
        )

    def _captures(self, request: Request) -> _Captures:
        number = request.path_params.get("upload")
        if number is None:
            return self._kept()
        desk = self._site.captures()
        upload = desk.find(number)
        return _Captures(
            desk.records(number),
            upload.name,
            [f"capture/{upload.name}"],
            upload.folder,
            desk.settings,
            desk.limits,
            upload.is_removed.is_set,
            desk.say,
            desk.preparation,
        )

    def _kept(self) -> _Captures:
        kept = self._site.kept
        if kept is None:
            raise MissingError(
                "this server has no captures of these flows; start it with --captures FOLDER"
            )
        return _Captures(
            self._site.records(),
            readable(kept.path.name),
            [],
            kept.path,
            kept.settings,
            kept.limits,
            lambda: False,
            kept.say,
            kept.preparation,
            str(kept.path.absolute()),
        )


class _Captures(NamedTuple):
    """Where a flow's packets are."""

    records: RecordHistory
    name: str
    """For people."""
    captures: list[str]
    folder: Path
    """In which the process runs."""
    settings: CaptureSettings
    limits: CaptureLimits
    is_removed: Callable[[], bool]
    say: Callable[[str], None]
    preparation: KernelPreparation | None
    where: str = ""
    """Folder in which the captures are looked for."""


def _run(job: CaptureJob, read: _Captures, is_over: Callable[[], bool]) -> dict[str, Any]:
    if read.preparation is not None:
        read.preparation.wait(is_over)
    return run_job(job, read.limits, read.folder, is_over, say=read.say)


def _either(one: Callable[[], bool], other: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: one() or other()


def _verdict_row(records: pa.RecordBatch) -> dict[str, Any]:
    """The columns of a flow's verdict, with its totals, from its records.

    Raises:
        MissingError: there are no records.
    """
    ends = [i for i, event in enumerate(records.column("event").to_pylist()) if event != VERDICT]
    if not ends:
        raise MissingError("there is no such flow in the records, or it has not ended")
    old = {new: name for name, new in RENAMED.items()}
    row: dict[str, Any] = {}
    for name in VERDICT_RECORD.names:
        column = records.column(name)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        row[old.get(name, name)] = column[ends[-1]].as_py()
    protocol = row["protocol"]
    row["protocol"] = _NUMBERS[protocol] if protocol in _NUMBERS else int(protocol)
    return row
