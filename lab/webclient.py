"""HTTP sessions with a device's TLS settings, over aiohttp or over curl with BoringSSL.

curl-cffi sets curl and BoringSSL as Chrome on Android does, hello, settings frames and all: the
nearest to an Android phone's own HTTP stack that this lab has.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

IMITATED = "chrome131_android"


class Http(Protocol):
    """One session: kept connections."""

    async def call(
        self, method: str, url: str, data: bytes = b"", headers: dict[str, str] | None = None
    ) -> bytes:
        """The answer's body; an answer that is no success is a ``ConnectionError``."""


class Aiohttp:
    """Python's usual client."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def call(
        self, method: str, url: str, data: bytes = b"", headers: dict[str, str] | None = None
    ) -> bytes:
        """One request."""
        async with self.session.request(method, url, data=data or None, headers=headers) as answer:
            body: bytes = await answer.read()
            if answer.status >= 400:
                raise ConnectionError(f"{method} {url}: {answer.status} {body[:80]!r}")
            return body


class Curl:
    """curl with BoringSSL."""

    def __init__(self, session: Any) -> None:
        self.session = session

    async def call(
        self, method: str, url: str, data: bytes = b"", headers: dict[str, str] | None = None
    ) -> bytes:
        """One request."""
        answer = await self.session.request(method, url, data=data or None, headers=headers)
        if answer.status_code >= 400:
            raise ConnectionError(f"{method} {url}: {answer.status_code}")
        return bytes(answer.content)


@asynccontextmanager
async def aiohttp_session(
    context: ssl.SSLContext, headers: dict[str, str]
) -> AsyncIterator[Aiohttp]:
    """A session whose TLS is the context's."""
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        yield Aiohttp(session)


@asynccontextmanager
async def curl_session(ca: str, headers: dict[str, str]) -> AsyncIterator[Curl]:
    """A session as Chrome's on Android."""
    from curl_cffi.requests import AsyncSession

    async with AsyncSession(
        impersonate=IMITATED, verify=ca, headers=headers, timeout=40
    ) as session:
        yield Curl(session)
