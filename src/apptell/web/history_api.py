"""The endpoints of the JSON API that ask a history."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from apptell._version import __version__
from apptell.errors import UsageError
from apptell.history.questions import GROUPINGS
from apptell.records.forms import form_of_name
from apptell.records.forms.jsonl import json_lines
from apptell.records.schema import LIVE_RECORD
from apptell.records.values import rfc3339
from apptell.web.endpoint import FILTERS, RANGE, TABLE, UPLOAD, Endpoint, Parameter
from apptell.web.parameters import (
    MAX_OFFSET,
    MAX_ROWS,
    read_choice,
    read_number,
    read_page,
    read_question,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from starlette.datastructures import QueryParams
    from starlette.requests import Request

    from apptell.history.flow_sums import FlowGroup, Overview
    from apptell.history.record_history import RecordHistory
    from apptell.web.site import Site

MAX_DOWNLOAD: Final = 200_000
"""Records of one download."""
_MAX_GROUPS: Final = 1000
_MAX_STEPS: Final = 1000
_SECOND_NS: Final = 1_000_000_000


class HistoryApi:
    """The endpoints of one site.

    Args:
        site: with the history.
        place: where they are; ``/api/uploads/{upload}`` for the history of a capture that was sent.
    """

    def __init__(self, site: Site, place: str = "/api") -> None:
        self._site, self._place = site, place

    def endpoints(self) -> list[Endpoint]:
        """The addresses of the API."""
        limits = (
            Parameter("limit", f"Most flows; at most {MAX_ROWS}, default 50.", "integer"),
            Parameter("offset", f"Flows that are skipped; at most {MAX_OFFSET:,}.", "integer"),
        )
        place = self._place
        own = (UPLOAD,) if "{upload}" in place else ()
        which = (*own, *RANGE, *FILTERS)
        connection = (*own, *which_flow())
        status = Endpoint("/api/status", "What the server has.", self.status, answer="Status")
        return [
            *([] if own else [status]),
            Endpoint(
                f"{place}/overview",
                "Bytes and flows over time and by group.",
                self.overview,
                (
                    Parameter("by", "How flows are grouped.", choices=tuple(GROUPINGS)),
                    Parameter("groups", "Most groups; default 100.", "integer"),
                    Parameter("series", "Groups over time; default 8.", "integer"),
                    Parameter("steps", "About how many steps of time; default 120.", "integer"),
                    *which,
                ),
                answer="Overview",
            ),
            Endpoint(
                f"{place}/flows",
                "A table of flows that have ended.",
                self.flows,
                (*TABLE, *limits, *which),
                answer="Flows",
            ),
            Endpoint(
                f"{place}/flows.csv",
                f"The same flows as CSV, by start; at most {MAX_DOWNLOAD:,}.",
                self.flows_csv,
                which,
                content="text/csv",
            ),
            Endpoint(
                f"{place}/flows.parquet",
                f"The same flows as Parquet, by start; at most {MAX_DOWNLOAD:,}.",
                self.flows_parquet,
                which,
                content="application/vnd.apache.parquet",
            ),
            Endpoint(
                f"{place}/flows.jsonl",
                f"The same flows as JSON lines, by start; at most {MAX_DOWNLOAD:,}.",
                self.flows_jsonl,
                which,
                content="application/x-ndjson",
            ),
            Endpoint(
                f"{place}/flow", "The records of one flow.", self.flow, connection, answer="Flow"
            ),
        ]

    def _records(self, request: Request) -> RecordHistory:
        if "upload" in request.path_params:
            return self._site.captures().records(request.path_params["upload"])
        return self._site.records()

    async def status(self, request: Request) -> Response:
        """What the server has."""
        del request
        site = self._site
        found: dict[str, Any] = {"files": 0, "records": 0, "bytes": 0}
        unreadable: list[dict[str, str]] = []
        if site.history is not None:
            found, left_out = await site.ask(site.history.status)
            unreadable = [{"name": each.name, "reason": each.reason} for each in left_out[:100]]
        first, last = found.pop("first_ns", None), found.pop("last_ns", None)
        return json_answer(
            {
                "version": __version__,
                "has_history": site.history is not None,
                "has_source": site.feed is not None,
                "has_reports": site.shelf is not None,
                "has_uploads": site.desk is not None,
                "has_captures": site.kept is not None,
                "most_upload_bytes": 0 if site.desk is None else site.desk.most_bytes,
                "source": None if site.feed is None else site.feed.name,
                **found,
                "first": None if first is None else rfc3339(first),
                "last": None if last is None else rfc3339(last),
                "unreadable": unreadable,
            }
        )

    async def overview(self, request: Request) -> Response:
        """Bytes and flows over time and by group."""
        query = request.query_params
        question = read_question(query)
        by = read_choice(query, "by", tuple(GROUPINGS))
        groups = read_number(query, "groups", 100, _MAX_GROUPS)
        series = read_number(query, "series", 8, 50)
        steps = max(read_number(query, "steps", 120, _MAX_STEPS), 1)
        records = self._records(request)
        found = await self._site.ask(
            lambda: records.overview(
                question, by, n_groups=max(groups, series), n_series=series, n_steps=steps
            )
        )
        return json_answer({"by": by, **overview_values(found)})

    async def flows(self, request: Request) -> Response:
        """A table of flows that have ended."""
        question, page = read_question(request.query_params), read_page(request.query_params)
        records = self._records(request)
        batch, total = await self._site.ask(
            lambda: records.flows(
                question,
                sort=page.sort,
                descending=page.is_descending,
                limit=page.limit,
                offset=page.offset,
            )
        )
        return records_answer("flows", batch, total=total, limit=page.limit, offset=page.offset)

    async def flows_csv(self, request: Request) -> Response:
        """The flows as CSV; cells that a spreadsheet would run as a formula begin with an apostrophe."""
        return await self._download(request, "csv", "text/csv; charset=utf-8")

    async def flows_parquet(self, request: Request) -> Response:
        """The flows as Parquet."""
        return await self._download(request, "parquet", "application/vnd.apache.parquet")

    async def flows_jsonl(self, request: Request) -> Response:
        """The flows as JSON lines."""
        return await self._download(request, "jsonl", "application/x-ndjson; charset=utf-8")

    async def flow(self, request: Request) -> Response:
        """The records of one flow."""
        records, which = self._records(request), connection_of(request.query_params)
        batch = await self._site.ask(lambda: records.flow(*which))
        return records_answer("records", batch)

    async def _download(self, request: Request, name: str, kind: str) -> Response:
        question = read_question(request.query_params)
        records = self._records(request)
        content, n = await self._site.ask(lambda: _written(records, question, name))
        headers = {"Content-Disposition": f'attachment; filename="apptell-flows.{name}"'}
        if n >= MAX_DOWNLOAD:
            headers["X-Apptell-Truncated"] = "yes"
        return Response(content, media_type=kind, headers=headers)


def which_flow() -> tuple[Parameter, ...]:
    """The parameters that name a flow."""
    return (
        Parameter("community_id", "Community ID of the flow.", is_required=True),
        Parameter("connection_id", "Picks one of the connections with this Community ID."),
        Parameter("part", "Picks one part of the connection.", "integer"),
    )


def connection_of(query: QueryParams) -> tuple[str, int | None, int | None]:
    """Community ID, connection and part of the flow that a request names.

    Raises:
        UsageError: it names none, or a value is not understood.
    """
    community_id = query.get("community_id", "")
    if not community_id or len(community_id) > 100:
        raise UsageError("community_id names the flow")
    connection = part = None
    if query.get("connection_id"):
        connection = read_number(query, "connection_id", 0, (1 << 64) - 1)
    if query.get("part"):
        part = read_number(query, "part", 0, (1 << 31) - 1)
    return community_id, connection, part


def _written(records: RecordHistory, question: Any, name: str) -> tuple[bytes, int]:
    """The flows of a question in a form, and their number."""
    form = form_of_name(name)
    file = io.BytesIO()
    text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="") if form.is_text else None
    writer = form.writer(text or file, LIVE_RECORD)
    n = 0
    for batch in records.batches(question, MAX_DOWNLOAD):
        writer.write(batch)
        n += batch.num_rows
    writer.close()
    if text is not None:
        text.flush()
    return file.getvalue(), n


def overview_values(overview: Overview) -> dict[str, Any]:
    """An overview as the API gives it."""
    steps = overview.steps
    own = overview.groups[: len(overview.bytes) - 1]
    names: list[FlowGroup | None] = [*own, None]
    return {
        "times": [(steps.start_ns + i * steps.step_ns) // _SECOND_NS for i in range(steps.n)],
        "step_s": steps.step_ns // _SECOND_NS,
        "series": [
            {
                "key": None if group is None else group.key,
                "label": None if group is None else group.label,
                "is_rest": group is None,
                "bytes": n_bytes,
                "flows": flows,
            }
            for group, n_bytes, flows in zip(names, overview.bytes, overview.flows, strict=True)
        ],
        "groups": [group_values(group) for group in overview.groups],
        "n_groups": overview.n_groups,
        "total": group_values(overview.total),
    }


def group_values(group: FlowGroup) -> dict[str, Any]:
    """A group as the API gives it."""
    return {
        "key": group.key,
        "label": group.label,
        "flows": group.flows,
        "named": group.named,
        "packets": group.packets,
        "bytes": group.bytes,
        "bytes_to_server": group.bytes_to_server,
        "bytes_to_client": group.bytes_to_client,
    }


def json_answer(values: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "replace"), status, media_type="application/json")


def records_answer(name: str, batch: pa.RecordBatch, **more: int) -> Response:
    """Records in JSON, each as ``jsonl`` writes it, under a name; with more numbers beside them."""
    rest = "".join(f', "{key}": {value}' for key, value in more.items())
    text = f'{{"{name}": [{", ".join(json_lines(batch))}]{rest}}}'
    return Response(text.encode("utf-8", "replace"), media_type="application/json")
