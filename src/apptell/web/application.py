"""Builds the application: routes of pages, assets, the JSON API, metrics and health."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from apptell.errors import ApptellError, OutputError
from apptell.web.bodies import read_body
from apptell.web.candidate_api import SCHEMAS as CANDIDATE_SCHEMAS
from apptell.web.candidate_api import CandidateApi
from apptell.web.endpoint import openapi
from apptell.web.flow_api import SCHEMA as REASON_SCHEMA
from apptell.web.flow_api import FlowApi
from apptell.web.guard import COOKIE, SESSION_S, Guard, cookie_of, peer_of, safe_next
from apptell.web.history_api import HistoryApi, json_answer
from apptell.web.model_api import SCHEMAS as MODEL_SCHEMAS
from apptell.web.model_api import ModelApi
from apptell.web.now_api import SCHEMA as NOW_SCHEMA
from apptell.web.now_api import NowApi
from apptell.web.pages import Pages
from apptell.web.report_api import SCHEMA as REPORTS_SCHEMA
from apptell.web.report_api import ReportApi
from apptell.web.upload_api import SCHEMA as UPLOAD_SCHEMA
from apptell.web.upload_api import UploadApi

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from apptell.web.site import Site

_HERE: Final = Path(__file__).parent
_LOGIN_BYTES: Final = 4096


def build_application(
    site: Site, hosts: Collection[str], *, takes_numbers: bool = False
) -> ASGIApp:
    """The application of a site.

    Args:
        site: what it shows.
        hosts: names and addresses that it answers to.
        takes_numbers: whether it answers to every IP address as well.
    """
    pages = Pages(site)
    reports = ReportApi(site)
    endpoints = [
        *HistoryApi(site).endpoints(),
        *NowApi(site).endpoints(),
        *reports.endpoints(),
        *ModelApi(site).endpoints(),
        *CandidateApi(site).endpoints(),
        *UploadApi(site).endpoints(),
        *FlowApi(site).endpoints(),
    ]
    more = {"Now": NOW_SCHEMA, "Reports": REPORTS_SCHEMA, **MODEL_SCHEMAS, **CANDIDATE_SCHEMAS}
    more |= {"Upload": UPLOAD_SCHEMA, "Reason": REASON_SCHEMA}
    document = openapi(endpoints, more)

    async def openapi_json(request: Request) -> Response:
        del request
        return json_answer(document)

    async def api(request: Request) -> Response:
        return pages.answer(request, "api.html", "API", document=document)

    application = Starlette(
        routes=[
            *(Route(each.path, each.handler, methods=[each.method]) for each in endpoints),
            Route("/openapi.json", openapi_json),
            Route("/", pages.first),
            Route("/now", pages.now),
            Route("/history", pages.history),
            Route("/flow", pages.flow),
            Route("/reports", pages.reports),
            Route("/try", pages.try_it),
            Route("/reports/file/{path:path}", reports.file),
            Route("/candidates", pages.candidates),
            Route("/models", pages.models),
            Route("/api", api),
            Route("/login", _login(site, pages), methods=["GET", "POST"]),
            Route("/logout", _logout(site), methods=["POST"]),
            Route("/metrics", _metrics(site)),
            Route("/healthz", _health),
            Route("/readyz", _readiness(site)),
            Mount("/static", StaticFiles(directory=_HERE / "static"), name="static"),
        ],
        exception_handlers={
            ApptellError: pages.refuse,
            HTTPException: pages.refuse,
            Exception: pages.fail,
        },
    )
    return Guard(application, site.sessions, hosts, takes_numbers=takes_numbers)


def _login(site: Site, pages: Pages) -> Any:
    async def login(request: Request) -> Response:
        target = safe_next(request.query_params.get("next", "/"))
        if not site.sessions.needs_token:
            return RedirectResponse(target, 303)
        if request.method == "GET":
            return pages.answer(request, "login.html", "Log in", fault="")
        fields = parse_qs((await read_body(request, _LOGIN_BYTES)).decode("utf-8", "replace"))
        peer = peer_of(request.scope)
        if site.sessions.is_locked(peer):
            fault = "There were too many wrong tokens. Wait a minute, then try again."
            return pages.answer(request, "login.html", "Log in", status=429, fault=fault)
        if not site.sessions.is_token(fields.get("token", [""])[0].strip(), peer):
            fault = "This is not the token of this server."
            return pages.answer(request, "login.html", "Log in", status=403, fault=fault)
        answer = RedirectResponse(target, 303)
        answer.set_cookie(
            COOKIE,
            site.sessions.begin(),
            max_age=int(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    return login


def _logout(site: Site) -> Any:
    async def logout(request: Request) -> Response:
        site.sessions.end(cookie_of(request.headers))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer

    return logout


async def _health(request: Request) -> Response:
    del request
    return PlainTextResponse("ok\n")


def _readiness(site: Site) -> Any:
    async def readiness(request: Request) -> Response:
        del request
        if site.feed is None or site.feed.is_ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("not ready\n", 503)

    return readiness


def _metrics(site: Site) -> Any:
    async def metrics(request: Request) -> Response:
        del request
        lines = [] if site.feed is None else [site.feed.metrics_text()]
        if site.history is not None:
            try:
                found, unreadable = await site.ask(site.history.status)
            except OutputError:
                found, unreadable = {"files": 0, "records": 0, "bytes": 0}, []
            for name, words, value in (
                ("records", "Records in the history.", found["records"]),
                ("files", "Readable files of the history.", found["files"]),
                ("bytes", "Bytes of these files.", found["bytes"]),
                ("unreadable_files", "Files that are left out.", len(unreadable)),
            ):
                full = f"apptell_history_{name}"
                lines.append(f"# HELP {full} {words}\n# TYPE {full} gauge\n{full} {value}\n")
        return PlainTextResponse(
            "".join(lines), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    return metrics
