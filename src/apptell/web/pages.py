"""Renders the pages. They hold no data: their scripts ask the JSON API, and put text into the page as text."""

from __future__ import annotations

import html
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from apptell._version import __version__
from apptell.errors import ApptellError, MissingError, OutputError
from apptell.templates import render
from apptell.web.history_api import json_answer

if TYPE_CHECKING:
    from starlette.requests import Request

    from apptell.web.site import Site

_TEMPLATES: Final = Path(__file__).parent / "templates"


class Pages:
    """The pages of one site.

    Args:
        site: what the pages show.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def answer(
        self, request: Request, template: str, title: str, *, status: int = 200, **values: Any
    ) -> Response:
        """A page."""
        links = [
            *([("/now", "Now")] if self._site.feed is not None else []),
            *([("/history", "History")] if self._site.history is not None else []),
            *([("/try", "Try it")] if self._site.desk is not None else []),
            *([("/reports", "Reports")] if self._site.shelf is not None else []),
            *([("/candidates", "Candidates")] if self._site.shelf is not None else []),
            *([("/models", "Models")] if self._site.models is not None else []),
            ("/api", "API"),
        ]
        page = render(
            _TEMPLATES / template,
            title=title,
            path=request.url.path,
            links=links,
            version=__version__,
            has_session=self._site.sessions.needs_token and template != "login.html",
            **values,
        )
        return HTMLResponse(page, status)

    async def first(self, request: Request) -> Response:
        """Leads to the first page."""
        del request
        site = self._site
        parts = (
            (site.feed, "/now"),
            (site.history, "/history"),
            (site.shelf, "/reports"),
            (site.models, "/models"),
            (site.desk, "/try"),
        )
        first = next((path for part, path in parts if part is not None), "/history")
        return RedirectResponse(first, 303)

    async def reports(self, request: Request) -> Response:
        """The reports of a folder."""
        if self._site.shelf is None:
            raise MissingError("this server shows no reports; start it with --reports FOLDER")
        return self.answer(request, "reports.html", "Reports")

    async def candidates(self, request: Request) -> Response:
        """Candidates that ``discover`` found."""
        if self._site.shelf is None:
            raise MissingError("this server shows no candidates; start it with --reports FOLDER")
        return self.answer(request, "candidates.html", "Candidates")

    async def models(self, request: Request) -> Response:
        """The models of a registry."""
        if self._site.models is None:
            raise MissingError("this server shows no models; start it with --models DIR")
        return self.answer(request, "models.html", "Models")

    async def try_it(self, request: Request) -> Response:
        """A capture is dropped here, and its flows are shown."""
        desk = self._site.captures()
        return self.answer(request, "try.html", "Try it", keeps_minutes=round(desk.keep_s / 60))

    async def now(self, request: Request) -> Response:
        """The last minutes, moving."""
        if self._site.feed is None:
            raise MissingError(
                "this server reads no source; start it with -i, --replay, --live or a stream"
            )
        return self.answer(request, "now.html", "Now")

    async def history(self, request: Request) -> Response:
        """Flows over time, by group and as a table."""
        return self.answer(request, "history.html", "History")

    async def flow(self, request: Request) -> Response:
        """One flow."""
        return self.answer(request, "flow.html", "Flow")

    async def refuse(self, request: Request, error: Exception) -> Response:
        """The answer to a request that cannot be served: JSON for programs, a page for people."""
        status, message = _reason(error)
        message = self._site.without_places(message)
        if _is_for_programs(request):
            return json_answer({"error": message}, status)
        return self.answer(request, "error.html", "Not found", status=status, message=message)

    async def fail(self, request: Request, error: Exception) -> Response:
        """The answer to a request that met a fault of apptell, which goes to standard error."""
        traceback.print_exception(error)
        message = "There is a fault in apptell; standard error of the server has the details."
        if _is_for_programs(request):
            return json_answer({"error": message}, 500)
        return HTMLResponse(
            f'<!doctype html><html lang="en"><title>Fault</title><p>{html.escape(message)}', 500
        )


def _is_for_programs(request: Request) -> bool:
    path = request.url.path
    return path.startswith("/api/") or path in ("/metrics", "/openapi.json")


def _reason(error: Exception) -> tuple[int, str]:
    if isinstance(error, HTTPException):
        words = {
            "Not Found": "there is no such page",
            "Method Not Allowed": "this address does not take such a request",
        }
        return error.status_code, words.get(error.detail, error.detail)
    if isinstance(error, MissingError):
        return 404, str(error)
    if isinstance(error, OutputError):
        return 503, str(error)
    if isinstance(error, ApptellError):
        return 400, str(error)
    return 500, "there is a fault in apptell"
