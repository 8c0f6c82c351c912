"""The endpoints of reports: their list, and their files, which are shown but never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import Response

from apptell.errors import MissingError, OutputError
from apptell.records.values import rfc3339
from apptell.web.endpoint import Endpoint
from apptell.web.guard import DATA_POLICY
from apptell.web.history_api import json_answer

if TYPE_CHECKING:
    from starlette.requests import Request

    from apptell.web.report_shelf import ReportShelf
    from apptell.web.site import Site

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "The reports of the folder, newest first, with the numbers of their metrics.json.",
    "properties": {"reports": {"type": "array", "items": {"type": "object"}}},
    "required": ["reports"],
}
_SHOWN: Final = (".html", ".svg", ".png", ".md", ".txt")
"""Files that a browser shows; others are downloaded."""


class ReportApi:
    """The endpoints of one site.

    Args:
        site: with the reports.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def endpoints(self) -> list[Endpoint]:
        """The addresses of the API."""
        return [
            Endpoint("/api/reports", "The reports of the folder.", self.reports, answer="Reports")
        ]

    def _shelf(self) -> ReportShelf:
        if self._site.shelf is None:
            raise MissingError("this server shows no reports; start it with --reports FOLDER")
        return self._site.shelf

    async def reports(self, request: Request) -> Response:
        """The reports of the folder, newest first."""
        del request
        found = await self._site.ask(self._shelf().reports)
        return json_answer(
            {
                "reports": [
                    {
                        "name": report.name,
                        "written": rfc3339(report.modified_ns),
                        "files": report.files,
                        "figures": report.figures,
                    }
                    for report in found
                ]
            }
        )

    async def file(self, request: Request) -> Response:
        """A file of a report, in a sandbox: no script of it runs."""
        shelf, path = self._shelf(), request.path_params["path"]
        try:
            content, kind = await self._site.ask(lambda: shelf.read(path))
        except OutputError as error:
            raise HTTPException(404, str(error)) from error
        headers = {"Content-Security-Policy": DATA_POLICY}
        name = path.rpartition("/")[2]
        if not name.lower().endswith(_SHOWN):
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name)}"
        return Response(content, media_type=kind, headers=headers)
