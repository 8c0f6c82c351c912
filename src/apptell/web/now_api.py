"""The endpoints of the live view: once, and as a stream of server-sent events.

Server-sent events: html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response, StreamingResponse

from apptell.errors import MissingError, UsageError
from apptell.web.endpoint import Endpoint, Parameter
from apptell.web.now_views import EVERY_S
from apptell.web.window_sums import NARROWED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from apptell.web.now_views import NowSource
    from apptell.web.site import Site

_MOST_CHARACTERS: Final = 200
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "The last minutes: bytes and flows of each app over time, the largest apps, categories, "
    "services, clients and outcomes, the latest verdicts, and the counters of the pipeline.",
}


class NowApi:
    """The endpoints of one site.

    Args:
        site: with the feed.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def endpoints(self) -> list[Endpoint]:
        """The addresses of the API."""
        which = [
            Parameter(name, f"Only flows with this {name}; an empty value for none.")
            for name in NARROWED
        ]
        return [
            Endpoint("/api/now", "The last five minutes.", self.now, which, answer="Now"),
            Endpoint(
                "/api/now/stream",
                "The same every second, as server-sent events.",
                self.now_stream,
                which,
                content="text/event-stream",
            ),
        ]

    def _feed(self) -> NowSource:
        if self._site.feed is None:
            raise MissingError(
                "this server reads no source; start it with -i, --replay, --live or a stream"
            )
        return self._site.feed

    async def now(self, request: Request) -> Response:
        """The last five minutes."""
        feed, wanted = self._feed(), _wanted(request)
        text = await self._site.ask(lambda: feed.text(wanted))
        return Response(text, media_type="application/json")

    async def now_stream(self, request: Request) -> Response:
        """The last five minutes every second."""
        feed, wanted = self._feed(), _wanted(request)

        async def events() -> AsyncIterator[str]:
            while not self._site.stopping.is_set():
                yield f"data: {await self._site.ask(lambda: feed.text(wanted))}\n\n"
                await asyncio.sleep(EVERY_S)

        return StreamingResponse(events(), media_type="text/event-stream")


def _wanted(request: Request) -> dict[str, str]:
    query = request.query_params
    wanted = {name: query[name] for name in NARROWED if name in query}
    if any(len(value) > _MOST_CHARACTERS for value in wanted.values()):
        raise UsageError(f"a value has at most {_MOST_CHARACTERS} characters")
    return wanted
