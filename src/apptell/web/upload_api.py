"""The endpoints of captures that people drop on the page: their arrival, their state, and their flows."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
from starlette.exceptions import HTTPException

from apptell.web.bodies import body_pieces
from apptell.web.endpoint import UPLOAD, Endpoint, Parameter
from apptell.web.history_api import HistoryApi, json_answer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from apptell.web.site import Site
    from apptell.web.upload_desk import Upload, UploadDesk

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "A capture that was sent, and how far it is.",
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "state": {"enum": ["receiving", "waiting", "reading", "done", "failed", "removed"]},
        "bytes": {"type": "integer"},
        "packets": {"type": "integer"},
        "flows": {"type": "integer", "description": "Flows with a verdict."},
        "share": {"type": ["number", "null"], "description": "Of the file that was read."},
        "fault": {"type": "string", "description": "Why it failed."},
        "damage": {"type": "string", "description": "Where the capture is damaged."},
        "expires_s": {"type": "integer", "description": "Seconds until it is deleted."},
        "preparing": {
            "type": "boolean",
            "description": "Whether captures wait until what reads them is compiled, for the first time.",
        },
    },
    "required": [
        "id", "name", "state", "bytes", "packets", "flows", "share", "fault", "damage", "expires_s",
        "preparing",
    ],
}  # fmt: skip
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
_MOST_RECEIVING: Final = 4
GRACE_S: Final = 20.0
LEAST_BYTES_PER_S: Final = 32_768
"""A capture that arrives more slowly than this after the first seconds is not taken."""
_WRITTEN_BYTES: Final = 1 << 20
_MOST_CHARACTERS: Final = 1000


class UploadApi:
    """The endpoints of one site.

    Args:
        site: with the desk of captures.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._receiving = 0

    def endpoints(self) -> list[Endpoint]:
        """The addresses of the API."""
        one = "/api/uploads/{upload}"
        name = Parameter("name", "Name of the file.")
        return [
            Endpoint(
                "/api/uploads",
                "Takes a capture as the body of the request and begins to identify its flows.",
                self.send_capture,
                (name,),
                answer="Upload",
                method="POST",
                body="application/octet-stream",
                status=202,
            ),
            Endpoint(one, "How far a capture is.", self.upload, (UPLOAD,), answer="Upload"),
            Endpoint(
                one,
                "Deletes a capture and all that was found in it.",
                self.delete_upload,
                (UPLOAD,),
                answer="Upload",
                method="DELETE",
            ),
            *HistoryApi(self._site, one).endpoints(),
        ]

    async def send_capture(self, request: Request) -> Response:
        """Takes a capture as the body of the request."""
        desk = self._site.captures()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in _FORMS:
            raise HTTPException(
                415,
                "send the capture itself, with the header Content-Type: application/octet-stream",
            )
        if self._receiving >= _MOST_RECEIVING:
            raise HTTPException(503, f"{_MOST_RECEIVING} captures are arriving; try again later")
        self._receiving += 1
        try:
            upload = await anyio.to_thread.run_sync(
                desk.begin, request.query_params.get("name", "")[:_MOST_CHARACTERS]
            )
            try:
                await _receive(request, desk, upload)
            except BaseException:
                desk.remove(upload)
                raise
        finally:
            self._receiving -= 1
        desk.submit(upload)
        return json_answer(_values(desk, upload), 202)

    async def upload(self, request: Request) -> Response:
        """How far a capture is."""
        desk = self._site.captures()
        return json_answer(_values(desk, desk.find(request.path_params["upload"])))

    async def delete_upload(self, request: Request) -> Response:
        """Deletes a capture and all that was found in it."""
        desk = self._site.captures()
        upload = desk.find(request.path_params["upload"])
        await anyio.to_thread.run_sync(desk.remove, upload)
        return json_answer(_values(desk, upload))


async def _receive(request: Request, desk: UploadDesk, upload: Upload) -> None:
    """Writes the body of a request into the file of an upload.

    Raises:
        HTTPException: it is empty, too large, too slow or incomplete, or there is no room for it.
    """
    begun_s = time.monotonic()
    waiting: list[bytes] = []
    n_waiting = 0
    try:
        with desk.open(upload) as file:

            async def write() -> None:
                data = b"".join(waiting)
                waiting.clear()
                await asyncio.to_thread(file.write, data)

            async for piece in body_pieces(request, desk.most_bytes):
                upload.n_bytes += len(piece)
                n_waiting += len(piece)
                waiting.append(piece)
                late_s = time.monotonic() - begun_s - GRACE_S
                if late_s > 0 and upload.n_bytes < late_s * LEAST_BYTES_PER_S:
                    raise HTTPException(408, "the body arrives too slowly")
                if n_waiting >= _WRITTEN_BYTES:
                    await write()
                    n_waiting = 0
            await write()
    except OSError as error:
        raise HTTPException(507, f"the capture cannot be stored: {error.strerror}") from error
    if not upload.n_bytes:
        raise HTTPException(400, "the body is empty")
    if upload.is_removed.is_set():
        raise HTTPException(409, "the capture was removed while it arrived")


def _values(desk: UploadDesk, upload: Upload) -> dict[str, Any]:
    return {
        "id": upload.id,
        "name": upload.name,
        "state": upload.state,
        "bytes": upload.n_bytes,
        "packets": upload.packets,
        "flows": upload.flows,
        "share": upload.share,
        "fault": upload.fault,
        "damage": upload.damage,
        "expires_s": round(desk.expires_s(upload)),
        "preparing": desk.is_preparing,
    }
