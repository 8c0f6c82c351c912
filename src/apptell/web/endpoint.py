"""Describes the endpoints of the JSON API, from which both the routes and the OpenAPI document are made.

OpenAPI 3.1: spec.openapis.org/oas/v3.1.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from apptell._version import __version__
from apptell.history.questions import GROUPINGS, SORTS
from apptell.records.schema import LIVE_RECORD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a request."""

    name: str
    words: str
    kind: str = "string"
    """Its JSON type."""
    choices: Sequence[str] = ()
    is_repeated: bool = False
    is_required: bool = False
    place: str = "query"
    """Or ``path``."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address of the API."""

    path: str
    """With path parameters in braces."""
    summary: str
    handler: Callable[[Request], Awaitable[Response]]
    parameters: Sequence[Parameter] = ()
    answer: str = ""
    """Name of the answer's schema; empty for content that is not JSON."""
    content: str = "application/json"
    method: str = "GET"
    body: str = ""
    """Media type of the request's body; empty without one."""
    takes: Mapping[str, Any] = field(default_factory=dict)
    """JSON schemas of the fields of a JSON body; all are required."""
    status: int = 200


UPLOAD: Final = Parameter(
    "upload", "The id of a capture that was sent.", place="path", is_required=True
)
RANGE: Final = (
    Parameter("from", "Earliest start of a flow, RFC 3339; without an offset UTC."),
    Parameter("to", "Flows that began before this time, RFC 3339."),
    Parameter("last", "Instead of from and to: a time until now, such as 24h, 7d or all."),
)
FILTERS: Final = (
    Parameter(
        "q", "Text that occurs in an app, a service, a name, an address, a JA4 or a Community ID."
    ),
    *(
        Parameter(name, f"Only flows with this {name}; an empty value for none.", is_repeated=True)
        for name in GROUPINGS
    ),
)
TABLE: Final = (
    Parameter("sort", "Order of the flows.", choices=tuple(SORTS)),
    Parameter("order", "Direction of the order.", choices=("desc", "asc")),
)
_JSON_TYPES: Final = (
    (pa.types.is_uint64, "string"),
    (pa.types.is_integer, "integer"),
    (pa.types.is_floating, "number"),
    (pa.types.is_boolean, "boolean"),
)


def record_schema() -> dict[str, Any]:
    """The JSON schema of a record, from its columns."""
    properties: dict[str, Any] = {}
    for column in LIVE_RECORD:
        kind = next((name for test, name in _JSON_TYPES if test(column.type)), "string")
        properties[column.name] = {"type": [kind, "null"]}
        if pa.types.is_timestamp(column.type):
            properties[column.name]["format"] = "date-time"
    return {
        "type": "object",
        "description": "A record as apptell live writes it; docs/reference/cli.md describes the columns.",
        "properties": properties,
    }


def _object(words: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": words,
        "properties": properties,
        "required": list(properties),
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_INTEGER: Final = {"type": "integer"}
_TEXT: Final = {"type": "string"}
_MAYBE: Final = {"type": ["string", "null"]}
_TIME: Final = {"type": ["string", "null"], "format": "date-time"}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def schemas() -> dict[str, Any]:
    """The JSON schemas of all answers, by name."""
    return {
        "Record": record_schema(),
        "Error": _object("What is wrong, in one sentence.", error=_TEXT),
        "Group": _object(
            "The sums of the flows that share a value.",
            key=_MAYBE,
            label=_MAYBE,
            flows=_INTEGER,
            named=_INTEGER,
            packets=_INTEGER,
            bytes=_INTEGER,
            bytes_to_server=_INTEGER,
            bytes_to_client=_INTEGER,
        ),
        "Overview": _object(
            "Flows over time and by group. The last series has all groups without one of their own.",
            by=_TEXT,
            times=_list(_INTEGER),
            step_s=_INTEGER,
            series=_list(
                _object(
                    "A group over time.",
                    key=_MAYBE,
                    label=_MAYBE,
                    is_rest={"type": "boolean"},
                    bytes=_list(_INTEGER),
                    flows=_list(_INTEGER),
                )
            ),
            groups=_list(_ref("Group")),
            n_groups=_INTEGER,
            total=_ref("Group"),
        ),
        "Flows": _object(
            "A page of a table of flows.",
            flows=_list(_ref("Record")),
            total=_INTEGER,
            limit=_INTEGER,
            offset=_INTEGER,
        ),
        "Flow": _object(
            "The records of a flow: its verdict and its end.", records=_list(_ref("Record"))
        ),
        "Status": _object(
            "What the server has.",
            version=_TEXT,
            has_history={"type": "boolean"},
            has_source={"type": "boolean"},
            has_reports={"type": "boolean"},
            has_uploads={"type": "boolean"},
            has_captures={"type": "boolean"},
            most_upload_bytes=_INTEGER,
            source=_MAYBE,
            records=_INTEGER,
            files=_INTEGER,
            bytes=_INTEGER,
            first=_TIME,
            last=_TIME,
            unreadable=_list(_object("A file that is left out.", name=_TEXT, reason=_TEXT)),
        ),
    }


def openapi(endpoints: Sequence[Endpoint], more: Mapping[str, Any]) -> dict[str, Any]:
    """The OpenAPI document of some endpoints.

    Args:
        endpoints: of the API.
        more: further schemas by name.
    """
    paths: dict[str, Any] = {}
    for each in endpoints:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "apptell",
            "version": __version__,
            "description": "The records of apptell: which app made each flow. A token, where one is needed, "
            "goes into the header Authorization: Bearer TOKEN.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas(), **more},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    kinds = (
        {"application/json": {"schema": _ref(endpoint.answer)}}
        if endpoint.answer
        else {endpoint.content: {"schema": {"type": "string"}}}
    )
    name = endpoint.handler.__name__
    if UPLOAD in endpoint.parameters and "upload" not in name:
        name = f"upload_{name}"  # the same question to another history
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": name,
        "parameters": [_parameter(each) for each in endpoint.parameters],
        "responses": {
            str(endpoint.status): {"description": endpoint.summary, "content": kinds},
            "default": {
                "description": "Why there is no answer.",
                "content": {"application/json": {"schema": _ref("Error")}},
            },
        },
    }
    if endpoint.body:
        fields = dict(endpoint.takes)
        schema: dict[str, Any] = {"type": "string", "format": "binary"}
        if fields:
            schema = {"type": "object", "properties": fields, "required": list(fields)}
        operation["requestBody"] = {
            "required": True,
            "content": {endpoint.body: {"schema": schema}},
        }
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.kind}
    if parameter.choices:
        schema |= {"enum": list(parameter.choices), "default": parameter.choices[0]}
    if parameter.is_repeated:
        schema = {"type": "array", "items": schema}
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.words,
        "required": parameter.is_required or parameter.place == "path",
        "schema": schema,
    }
