"""Checks each request before any page sees it, and adds the headers that keep pages from running data.

- The ``Host`` header must be an address of this machine or a name that was allowed, so that no other site can
  point its own name here (DNS rebinding).
- A request that changes something must come from a page of this server, by its ``Origin`` or
  ``Sec-Fetch-Site``; programs send neither.
- A page of another site may lead here with a link, but gets nothing as its picture, script, frame or data, and
  so has this server do no work and measures no time.
- With a token, everything but the login page, assets and health checks needs it: as ``Authorization: Bearer``
  or in a session that the login page began.
- Pages load scripts, styles and data only from this server, and run nothing inline.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE: Final = "apptell_session"
SESSION_S: Final = 12 * 3600.0
"""Seconds after which a session ends."""
_MOST_SESSIONS: Final = 1000
_MOST_PEERS: Final = 1000
_MOST_FAILURES: Final = 10
_FAILURES_S: Final = 60.0
_SAFE: Final = ("GET", "HEAD", "OPTIONS")
_OPEN: Final = ("/login", "/healthz", "/readyz")
"""Paths that need no token; besides assets."""
CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
DATA_POLICY: Final = (
    "sandbox allow-same-origin; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
"""Of reports, which are data: no script, no form, no other origin; their own styles and pictures."""
_HEADERS: Final = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether an address or name can be reached only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Sessions:
    """Checks a token, and remembers who has shown it.

    Args:
        token: the only one that is accepted; None where none is needed.
    """

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else token.encode()
        self._until_s: dict[str, float] = {}
        self._failures: dict[str, deque[float]] = {}
        """Times of wrong tokens, by the address that they came from: nobody locks others out."""

    @property
    def needs_token(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def is_locked(self, peer: str) -> bool:
        """Whether an address sent so many wrong tokens in the last minute that none of it is looked at."""
        failures = self._failures.get(peer)
        if failures is None or len(failures) < _MOST_FAILURES:
            return False
        return time.monotonic() - failures[0] < _FAILURES_S

    def is_token(self, text: str, peer: str) -> bool:
        """Whether a text is the token; compares in constant time and counts wrong ones.

        Args:
            text: what was sent.
            peer: the address that it came from.
        """
        if self._token is None or self.is_locked(peer):
            return False
        is_right = hmac.compare_digest(self._token, text.encode("utf-8", "surrogateescape"))
        if not is_right:
            failures = self._failures.pop(peer, None) or deque(maxlen=_MOST_FAILURES)
            while len(self._failures) >= _MOST_PEERS:
                del self._failures[next(iter(self._failures))]
            failures.append(time.monotonic())
            self._failures[peer] = failures
        return is_right

    def begin(self) -> str:
        """Begins a session; returns the value of its cookie."""
        now = time.monotonic()
        self._until_s = {name: until for name, until in self._until_s.items() if until > now}
        while len(self._until_s) >= _MOST_SESSIONS:
            del self._until_s[next(iter(self._until_s))]
        name = secrets.token_urlsafe(32)
        self._until_s[name] = now + SESSION_S
        return name

    def end(self, name: str) -> None:
        """Ends a session."""
        self._until_s.pop(name, None)

    def is_known(self, headers: Headers, peer: str) -> bool:
        """Whether a request may see everything."""
        if self._token is None:
            return True
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.is_token(value.strip(), peer)
        return self._until_s.get(cookie_of(headers), 0.0) > time.monotonic()


def cookie_of(headers: Headers) -> str:
    """The session in a request's cookies; empty without one."""
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def peer_of(scope: Scope) -> str:
    """The address that a request came from."""
    return str((scope.get("client") or ("",))[0])


class Guard:
    """ASGI middleware with the checks of this module.

    Args:
        app: gets the requests that pass.
        sessions: knows the token.
        hosts: names and addresses that ``Host`` may have.
        takes_numbers: whether it may be any IP address as well, which no other site can point here.
    """

    def __init__(
        self, app: ASGIApp, sessions: Sessions, hosts: Collection[str], *, takes_numbers: bool
    ) -> None:
        self._app, self._sessions = app, sessions
        self._hosts = frozenset(host.lower().strip("[]") for host in hosts)
        self._takes_numbers = takes_numbers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request itself, or passes it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), scope["path"]
        if not self._is_host(headers):
            return PlainTextResponse(
                "This server does not answer to that name; --host-name NAME allows one.\n", 421
            )
        is_strange = (
            not _is_same_origin(headers) if scope["method"] not in _SAFE else _is_embedded(headers)
        )
        if is_strange:
            return JSONResponse({"error": "the request comes from another site"}, 403)
        if (
            path.startswith("/static/")
            or path in _OPEN
            or self._sessions.is_known(headers, peer_of(scope))
        ):
            return None
        if path.startswith("/api/") or path in ("/metrics", "/openapi.json"):
            return JSONResponse(
                {"error": "a token is needed: Authorization: Bearer TOKEN"},
                401,
                {"WWW-Authenticate": "Bearer"},
            )
        query = scope["query_string"].decode("latin-1")
        return RedirectResponse(f"/login?next={quote(path + ('?' + query if query else ''))}", 303)

    def _is_host(self, headers: Headers) -> bool:
        if len(headers.getlist("host")) != 1:
            return False
        try:
            host = urlsplit(f"//{headers['host']}")
            name = (host.hostname or "").lower()
            if host.username is not None or host.path or host.query or host.port == 0:
                return False
        except ValueError:
            return False
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._takes_numbers


def _is_same_origin(headers: Headers) -> bool:
    """Whether a request that changes something comes from a page of this server or from no page at all."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None:
        try:
            return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
        except ValueError:
            return False
    return site in (None, "same-origin", "none")


def _is_embedded(headers: Headers) -> bool:
    """Whether a page of another site asks for a part of itself, by what browsers say of requests."""
    if headers.get("sec-fetch-site") not in ("cross-site", "same-site"):
        return False
    is_page = headers.get("sec-fetch-dest", "document") == "document"
    return headers.get("sec-fetch-mode") != "navigate" or not is_page


def safe_next(path: Any) -> str:
    """A path of this server to go on to; the first page for anything else."""
    text = str(path)
    is_path = text.startswith("/") and not text.startswith(("//", "/\\"))
    return text if is_path and text.isprintable() and "\\" not in text else "/"
