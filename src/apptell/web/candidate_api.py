"""The endpoints of candidates that ``discover`` found: they are shown, named, and sent to an update."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from apptell.errors import DatasetError, MissingError, UsageError
from apptell.records.values import rfc3339
from apptell.watch.found_folder import candidate_folder, read_examples, read_found
from apptell.web.endpoint import Endpoint, Parameter
from apptell.web.history_api import json_answer
from apptell.web.model_api import read_json, refuse_without_token, registry_of, shelf_of
from apptell.web.parameters import read_number
from apptell.web.update_desk import UpdateTask

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from apptell.web.report_shelf import ReportShelf
    from apptell.web.site import Site
    from apptell.web.update_desk import ModelUpdate, UpdateDesk

_OBJECTS: Final = {"type": "array", "items": {"type": "object"}}
SCHEMAS: Final[dict[str, Any]] = {
    "Candidates": {
        "type": "object",
        "description": "Folders that discover wrote, newest first, each with its candidates.",
        "properties": {"can_update": {"type": "boolean"}, "found": _OBJECTS},
        "required": ["can_update", "found"],
    },
    "Updates": {
        "type": "object",
        "description": "Updates of models that were asked for, newest first.",
        "properties": {
            "updates": {"type": "array", "items": {"$ref": "#/components/schemas/Update"}}
        },
        "required": ["updates"],
    },
    "Update": {
        "type": "object",
        "description": "An update: `result` is what apptell update --json writes, and the new version.",
        "properties": {
            "number": {"type": "integer"},
            "state": {"enum": ["running", "added", "refused", "failed", "cancelled"]},
            "share": {"type": "number"},
            "words": {"type": "string"},
            "model": {"type": "string"},
            "version": {"type": "string"},
            "apps": {"type": "array", "items": {"type": "string"}},
            "began": {"type": "string", "format": "date-time"},
            "notes": {"type": "array", "items": {"type": "string"}},
            "fault": {"type": "string"},
            "result": {"type": ["object", "null"]},
        },
        "required": ["number", "state", "share", "words", "model", "version"],
    },
}
_MOST_ADDED: Final = 50
_LONGEST: Final = 256
_MOST_NUMBER: Final = 1_000_000


class CandidateApi:
    """The endpoints of one site.

    Args:
        site: with the reports, the registry and the desk for updates.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()

    def endpoints(self) -> list[Endpoint]:
        """The addresses of the API."""
        number = Parameter("number", "Of an update.", "integer", is_required=True, place="path")
        return [
            Endpoint(
                "/api/candidates", "Candidates for new apps.", self.candidates, answer="Candidates"
            ),
            Endpoint(
                "/api/candidates/examples",
                "The first packets of a few flows of a candidate, with their payload.",
                self.examples,
                (
                    Parameter("found", "Name of a folder of candidates.", is_required=True),
                    Parameter("candidate", "Number of a candidate.", "integer", is_required=True),
                ),
                content="application/vnd.tcpdump.pcap",
            ),
            Endpoint(
                "/api/updates", "Updates that were asked for.", self.updates, answer="Updates"
            ),
            Endpoint(
                "/api/updates",
                "Updates a version of a model with candidates, as apptell update does. Needs a token.",
                self.update,
                answer="Update",
                method="POST",
                body="application/json",
                takes={
                    "model": {"type": "string"},
                    "version": {"type": "string"},
                    "found": {"type": "string"},
                    "candidates": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "candidate": {"type": "integer"},
                                "app": {"type": "string"},
                            },
                            "required": ["candidate", "app"],
                        },
                    },
                },
                status=202,
            ),
            Endpoint(
                "/api/updates/{number}/cancel",
                "Ends an update that is running; nothing is written. Needs a token.",
                self.cancel,
                (number,),
                answer="Updates",
                method="POST",
                body="application/json",
            ),
        ]

    def _shelf(self) -> ReportShelf:
        if self._site.shelf is None:
            raise MissingError("this server shows no candidates; start it with --reports FOLDER")
        return self._site.shelf

    def _desk(self) -> UpdateDesk:
        if self._site.updates is None:
            raise MissingError("this server updates no models; start it with --models DIR")
        return self._site.updates

    async def candidates(self, request: Request) -> Response:
        """Candidates for new apps."""
        del request
        shelf, site = self._shelf(), self._site

        def read() -> list[dict[str, Any]]:
            found = []
            for name, folder, modified_ns in shelf.found_folders():
                about: dict[str, Any] = {"name": name, "written": rfc3339(modified_ns), "fault": ""}
                try:
                    about |= read_found(folder)
                except DatasetError as error:
                    about |= {"fault": str(error).replace(f"{shelf.folder}/", ""), "candidates": []}
                found.append(about)
            return found

        can_update = site.updates is not None and site.sessions.needs_token
        return json_answer({"can_update": can_update, "found": await site.ask(read)})

    async def examples(self, request: Request) -> Response:
        """The capture with a few flows of a candidate."""
        query, shelf = request.query_params, self._shelf()
        name, number = query.get("found", ""), read_number(query, "candidate", 0, _MOST_NUMBER)

        def read() -> bytes:
            try:
                return read_examples(candidate_folder(_folder(shelf, name), number))
            except DatasetError as error:
                raise HTTPException(404, "there are no such examples") from error

        return Response(
            await self._site.ask(read),
            media_type="application/vnd.tcpdump.pcap",
            headers={"Content-Disposition": f'attachment; filename="candidate-{number}.pcap"'},
        )

    async def updates(self, request: Request) -> Response:
        """Updates that were asked for."""
        del request
        return json_answer({"updates": [_shown(each) for each in self._desk().updates()]})

    async def update(self, request: Request) -> Response:
        """Begins an update."""
        refuse_without_token(self._site)
        desk, shelf, registry = self._desk(), self._shelf(), registry_of(self._site)
        said = await read_json(request)
        names = [said.get(name) for name in ("model", "version", "found")]
        if not all(isinstance(name, str) for name in names):
            raise UsageError("the body does not name model, version and found")
        model, version, found = map(str, names)
        wanted = _wanted(said.get("candidates"))

        def task() -> UpdateTask:
            versions = shelf_of(registry, model)
            try:
                versions.path(version)
            except UsageError as error:
                raise HTTPException(404, "there is no such version") from error
            folder = _folder(shelf, found)
            try:
                add = [(candidate_folder(folder, number), app) for number, app in wanted]
            except DatasetError as error:
                raise HTTPException(404, "there is no such candidate") from error
            return UpdateTask(versions.folder, version, add)

        return json_answer(_shown(desk.begin(await self._site.ask(task))), 202)

    async def cancel(self, request: Request) -> Response:
        """Ends a running update."""
        refuse_without_token(self._site)
        desk = self._desk()
        await read_json(request)
        text = request.path_params["number"]
        if not text.isascii() or not text.isdecimal() or not desk.cancel(int(text[:9])):
            raise HTTPException(404, "there is no such update that is running")
        return json_answer({"updates": [_shown(each) for each in desk.updates()]})


def _folder(shelf: ReportShelf, name: str) -> Path:
    """A folder of candidates by the name that the list gives it.

    Raises:
        HTTPException: there is no such folder.
    """
    for each, folder, _ in shelf.found_folders():
        if each == name:
            return folder
    raise HTTPException(404, "there is no such folder of candidates")


def _wanted(candidates: Any) -> list[tuple[int, str]]:
    """Candidates and the apps that they are.

    Raises:
        UsageError: this is not a list of them.
    """
    if not isinstance(candidates, list) or not 0 < len(candidates) <= _MOST_ADDED:
        raise UsageError(f"the body names no candidates, or more than {_MOST_ADDED}")
    wanted = []
    for each in candidates:
        number, app = (
            (each.get("candidate"), each.get("app")) if isinstance(each, dict) else (None, None)
        )
        if not isinstance(number, int) or isinstance(number, bool) or not isinstance(app, str):
            raise UsageError("a candidate is not a number with an app")
        name = app.strip()
        if not name or not name.isprintable() or len(name) > _LONGEST:
            raise UsageError(f"{app[:40]!r} cannot be the name of an app")
        wanted.append((number, name))
    if len({number for number, _ in wanted}) < len(wanted):
        raise UsageError("a candidate is named twice")
    return wanted


def _shown(one: ModelUpdate) -> dict[str, Any]:
    return {
        "number": one.number,
        "state": one.state,
        "share": round(one.share, 3),
        "words": one.words,
        "model": one.task.shelf.name,
        "version": one.task.version,
        "apps": [app for _, app in one.task.add],
        "began": rfc3339(one.began_ns),
        "notes": one.notes,
        "fault": one.fault,
        "result": one.result,
    }
