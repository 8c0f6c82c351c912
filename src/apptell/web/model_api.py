"""The endpoints of a registry of models: what each version is, and which one is in use.

Changes need a token even on loopback, a JSON body, and the version that they replace: a page of another site
can send none of these, and a page that shows an old state changes nothing.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException

from apptell.errors import MissingError, ModelError, UsageError
from apptell.models.model_folder import hash_of, read_card, read_info
from apptell.models.model_shelf import ModelShelf, shelves
from apptell.web.bodies import read_body
from apptell.web.endpoint import Endpoint, Parameter
from apptell.web.flat_figures import figures_of
from apptell.web.history_api import json_answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from apptell.web.site import Site

_NULLABLE: Final = {"type": ["string", "null"]}
SCHEMAS: Final[dict[str, Any]] = {
    "Models": {
        "type": "object",
        "description": "The models of the registry, their versions, and which of them is in use.",
        "properties": {
            "can_change": {"type": "boolean"},
            "models": {"type": "array", "items": {"$ref": "#/components/schemas/ModelVersions"}},
        },
        "required": ["can_change", "models"],
    },
    "ModelVersions": {
        "type": "object",
        "description": "One model. A rollback makes `before` the version in use.",
        "properties": {
            "model": {"type": "string"},
            "current": _NULLABLE,
            "challenger": _NULLABLE,
            "before": _NULLABLE,
            "promotions": {"type": "array", "items": {"type": "object"}},
            "versions": {"type": "array", "items": {"type": "object"}},
            "fault": {"type": "string"},
        },
        "required": ["model", "current", "challenger", "before", "versions", "fault"],
    },
    "ModelVersion": {
        "type": "object",
        "description": "One version: its figures, apps, lineage, and the text of its card.",
    },
    "InUse": {
        "type": "object",
        "description": "The version that is in use now.",
        "properties": {"model": {"type": "string"}, "current": _NULLABLE},
        "required": ["model", "current"],
    },
}
MOST_BODY: Final = 16_384
_MOST_VERSIONS: Final = 200
_MOST_APPS: Final = 3000
_MOST_UPDATES: Final = 50
_LONGEST: Final = 200
_MODEL: Final = Parameter("model", "Name of a model.", is_required=True, place="path")
_VERSION: Final = Parameter("version", "Name of a version.", is_required=True, place="path")


def refuse_without_token(site: Site) -> None:
    """Refuses a change where the server has no token.

    Raises:
        HTTPException: it has none.
    """
    if not site.sessions.needs_token:
        raise HTTPException(
            403, "this server has no token, so it changes nothing; start it with --token-file FILE"
        )


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        HTTPException: it is not JSON, or too large.
        UsageError: it is not an object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "the body is not application/json")
    content = await read_body(request, MOST_BODY)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is not valid JSON") from error
    if not isinstance(found, dict):
        raise UsageError("the body is not a JSON object")
    return found


class ModelApi:
    """The endpoints of one site.

    Args:
        site: with the folder of the registry.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()

    def endpoints(self) -> list[Endpoint]:
        """The addresses of the API."""
        body = "application/json"
        return [
            Endpoint("/api/models", "The models of the registry.", self.models, answer="Models"),
            Endpoint(
                "/api/models/{model}/{version}",
                "One version: figures, apps, lineage and card.",
                self.version,
                (_MODEL, _VERSION),
                answer="ModelVersion",
            ),
            Endpoint(
                "/api/models/{model}/promote",
                "Makes a version the one in use, if instead_of is in use now. Needs a token.",
                self.promote,
                (_MODEL,),
                answer="InUse",
                method="POST",
                body=body,
                takes={"version": {"type": "string"}, "instead_of": _NULLABLE},
            ),
            Endpoint(
                "/api/models/{model}/rollback",
                "Returns to the version before, if instead_of is in use now. Needs a token.",
                self.rollback,
                (_MODEL,),
                answer="InUse",
                method="POST",
                body=body,
                takes={"instead_of": {"type": "string"}},
            ),
        ]

    async def models(self, request: Request) -> Response:
        """The models of the registry."""
        del request
        folder = registry_of(self._site)
        found = await self._site.ask(lambda: [_about(shelf) for shelf in shelves(folder)])
        return json_answer({"can_change": self._site.sessions.needs_token, "models": found})

    async def version(self, request: Request) -> Response:
        """One version."""
        shelf, version = self._shelf(request), request.path_params["version"]
        return json_answer(await self._site.ask(lambda: _described(shelf, version)))

    async def promote(self, request: Request) -> Response:
        """Makes a version the one in use."""
        return await self._change(request, lambda shelf, said: shelf.promote(_version_of(said)))

    async def rollback(self, request: Request) -> Response:
        """Returns to the version that was in use before."""
        return await self._change(request, lambda shelf, _: shelf.rollback())

    async def _change(
        self, request: Request, change: Callable[[ModelShelf, dict[str, Any]], object]
    ) -> Response:
        refuse_without_token(self._site)
        said = await read_json(request)
        shelf = self._shelf(request)

        def apply() -> str | None:
            with self._lock:
                if "instead_of" not in said or said["instead_of"] != shelf.current:
                    raise HTTPException(
                        409,
                        f"version {shelf.current or 'none'} of {shelf.name} is in use, and not the one that "
                        "was to be replaced; load the page again",
                    )
                change(shelf, said)
                return shelf.current

        current = await self._site.ask(apply)
        return json_answer({"model": shelf.name, "current": current})

    def _shelf(self, request: Request) -> ModelShelf:
        """The shelf of the model that a request names."""
        return shelf_of(registry_of(self._site), request.path_params["model"])


def registry_of(site: Site) -> Path:
    """The folder of the registry.

    Raises:
        MissingError: the server was started without one.
    """
    if site.models is None:
        raise MissingError("this server shows no models; start it with --models DIR")
    return site.models


def shelf_of(folder: Path, name: str) -> ModelShelf:
    """The shelf of a model in a registry.

    Raises:
        HTTPException: there is no such model.
    """
    for shelf in shelves(folder):
        if shelf.name == name:
            return shelf
    raise HTTPException(404, "there is no such model")


def _version_of(said: dict[str, Any]) -> str:
    version = said.get("version")
    if not isinstance(version, str):
        raise UsageError("the body names no version")
    return version


def _about(shelf: ModelShelf) -> dict[str, Any]:
    """A model with all its versions; what is wrong with it where its files are damaged."""
    found: dict[str, Any] = {
        "model": shelf.name,
        "current": None,
        "challenger": None,
        "before": None,
        "promotions": [],
        "versions": [],
        "fault": "",
    }
    try:
        found["versions"] = [_row(shelf, name) for name in shelf.versions()[-_MOST_VERSIONS:]]
        found["current"], found["challenger"] = shelf.current, shelf.challenger
        found["before"] = shelf.before
        found["promotions"] = [
            {"version": each["version"], "when": str(each.get("when", ""))[:40]}
            for each in shelf.promotions()
        ]
    except ModelError as error:
        found["fault"] = _reason(error, shelf)
    return found


def _reason(error: ModelError, shelf: ModelShelf) -> str:
    """What is wrong, without the place of the registry on this machine."""
    return str(error).replace(f"{shelf.folder}/", "")


def _row(shelf: ModelShelf, version: str) -> dict[str, Any]:
    """What a table says of a version."""
    try:
        info = read_info(shelf.folder / version)
    except ModelError as error:
        return {"version": version, "fault": _reason(error, shelf)}
    return {
        "version": version,
        "fault": "",
        "name": f"{info['name']}@{hash_of(info)}",
        "created": info["created"],
        "n_apps": len(info["apps"]),
        "flows": info["data"].get("flows"),
        "keeps_rows": "rows" in info,
        "updates": len(info.get("lineage", [])),
        "figures": _figures(info),
    }


def _described(shelf: ModelShelf, version: str) -> dict[str, Any]:
    """Everything that a page says of a version.

    Raises:
        HTTPException: there is no such version.
        ModelError: it is damaged.
    """
    try:
        folder = shelf.path(version)
    except UsageError as error:
        raise HTTPException(404, "there is no such version") from error
    info = read_info(folder)
    per_app = info["data"].get("per_app") or {}
    return {
        **_row(shelf, version),
        "model": shelf.name,
        "apps": [
            {"app": app, "flows": per_app.get(app), "prior": (info.get("prior") or {}).get(app)}
            for app in info["apps"][:_MOST_APPS]
        ],
        "inputs": info["inputs"],
        "threshold": info["threshold"],
        "recognises_unknown": "unknown" in info,
        "lineage": [_update_of(entry) for entry in info.get("lineage", [])[-_MOST_UPDATES:]],
        "versions": info["versions"],
        "card": read_card(folder),
    }


def _update_of(entry: dict[str, Any]) -> dict[str, Any]:
    """What ``lineage`` says of an update; whatever has another form is left out."""
    added, held_out = entry.get("added"), entry.get("held_out")
    return {
        "parent": str(entry.get("parent", ""))[:_LONGEST],
        "when": str(entry.get("when", ""))[:_LONGEST],
        "forced": entry.get("forced") is True,
        "added": [
            {name: str(each.get(name, ""))[:_LONGEST] for name in ("by", "from")}
            | {"flows": figures_of(each.get("flows"))}
            for each in (added if isinstance(added, list) else [])[:_MOST_UPDATES]
            if isinstance(each, dict)
        ],
        "held_out": [
            {"app": str(each.get("app", ""))[:_LONGEST]}
            | figures_of({name: each.get(name) for name in ("flows", "before", "after")})
            for each in (held_out if isinstance(held_out, list) else [])[:_MOST_APPS]
            if isinstance(each, dict)
        ],
    }


def _figures(info: dict[str, Any]) -> dict[str, float]:
    """The numbers of a version that are compared with those of another."""
    last: Any = next(iter(reversed(info.get("lineage", []))), {})
    rows = last.get("held_out") if isinstance(last, dict) else None
    after = {
        str(row["app"]): row["after"]
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and "app" in row and "after" in row
    }
    return figures_of(
        {
            **info["metrics"],
            "apps": len(info["apps"]),
            "training flows": info["data"].get("flows"),
            "threshold": info["threshold"],
            "share right on held-out flows, last update": after,
        }
    )
