"""Reads the bodies of requests, bounded in size and time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

PIECE_S: Final = 15.0
"""Seconds within which the next piece of a body has to arrive."""
BODY_S: Final = 30.0
"""Seconds within which a small body has to arrive."""


async def body_pieces(
    request: Request, most: int, piece_s: float = PIECE_S
) -> AsyncIterator[bytes]:
    """The pieces of a body as they arrive.

    Args:
        request: whose body it is.
        most: bytes.
        piece_s: seconds to wait for the next piece.

    Raises:
        HTTPException: the body is larger, too slow, or ends early.
    """
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > most:
        raise HTTPException(413, f"the body is larger than {most:,} bytes")
    n = 0
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(piece_s):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HTTPException(408, "the body arrives too slowly") from None
        except ClientDisconnect:
            raise HTTPException(400, "the body is not complete") from None
        n += len(piece)
        if n > most:
            raise HTTPException(413, f"the body is larger than {most:,} bytes")
        yield piece


async def read_body(request: Request, most: int) -> bytes:
    """A small body.

    Raises:
        HTTPException: it is larger than ``most`` bytes, takes longer than ``BODY_S``, or ends early.
    """
    try:
        async with asyncio.timeout(BODY_S):
            return b"".join([piece async for piece in body_pieces(request, most)])
    except TimeoutError:
        raise HTTPException(408, "the body arrives too slowly") from None
