"""A Matrix client with the few calls that the lab makes, with the names of nio's methods.

The second client of Matrix: it speaks the client-server API itself over the device's HTTP stack,
as Element's Android client does over okhttp.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

import nio

if TYPE_CHECKING:
    from lab.webclient import Http


class Rest:
    """One signed-in device."""

    def __init__(self, http: Http, base: str, user: str) -> None:
        self.http, self.base, self.user = http, base, user
        self.token = self.next_batch = ""
        self.numbers = itertools.count()

    async def _ask(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = b""
        if body is not None:
            headers["Content-Type"] = kind
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return dict(json.loads(await self.http.call(method, self.base + path, data, headers)))

    async def login(self, password: str, device_name: str) -> None:
        """By password."""
        who = {"type": "m.id.user", "user": self.user}
        body = {"type": "m.login.password", "identifier": who, "password": password}
        answer = await self._ask(
            "POST", "/_matrix/client/v3/login", {**body, "initial_device_display_name": device_name}
        )
        self.token = answer["access_token"]

    def restore_login(self, _user: str, _device: str, token: str) -> None:
        """By the kept token."""
        self.token = token

    async def sync(self, timeout: int, full_state: bool = False, sync_filter: Any = None) -> None:
        """A long poll of at most ``timeout`` ms."""
        query = f"?timeout={timeout}&full_state={str(full_state).lower()}"
        query += f"&since={self.next_batch}" if self.next_batch else ""
        query += f"&filter={quote(json.dumps(sync_filter))}" if sync_filter else ""
        answer = await self._ask("GET", f"/_matrix/client/v3/sync{query}")
        self.next_batch = answer["next_batch"]

    async def room_typing(self, room: str, typing: bool, timeout: int) -> None:
        """Typing, for a while."""
        path = f"/_matrix/client/v3/rooms/{quote(room)}/typing/{quote(self.user)}"
        await self._ask("PUT", path, {"typing": typing, "timeout": timeout})

    async def room_messages(self, room: str, start: str, limit: int) -> None:
        """A page of history."""
        path = f"/_matrix/client/v3/rooms/{quote(room)}/messages?dir=b&from={start}&limit={limit}"
        await self._ask("GET", path)

    async def room_send(
        self, room: str, kind: str, content: dict[str, Any], **_: Any
    ) -> nio.RoomSendResponse:
        """A message."""
        path = (
            f"/_matrix/client/v3/rooms/{quote(room)}/send/{kind}/m{id(self)}.{next(self.numbers)}"
        )
        answer = await self._ask("PUT", path, content)
        return nio.RoomSendResponse(answer["event_id"], room)

    async def room_read_markers(self, room: str, fully_read: str, read: str) -> None:
        """Read up to here."""
        path = f"/_matrix/client/v3/rooms/{quote(room)}/read_markers"
        await self._ask("POST", path, {"m.fully_read": fully_read, "m.read": read})

    async def upload(
        self, source: BinaryIO, content_type: str, filename: str, **_: Any
    ) -> tuple[nio.UploadResponse, None]:
        """A file."""
        path = f"/_matrix/media/v3/upload?filename={filename}"
        answer = await self._ask("POST", path, source.read(), content_type)
        return nio.UploadResponse(answer["content_uri"]), None

    async def download(self, uri: str) -> None:
        """A file."""
        headers = {"Authorization": f"Bearer {self.token}"}
        path = uri.removeprefix("mxc://")
        await self.http.call("GET", f"{self.base}/_matrix/media/v3/download/{path}", b"", headers)

    async def close(self) -> None:
        """The HTTP session ends by itself."""
