"""A WebSocket server that sends prices at the requested rate."""

from __future__ import annotations

import asyncio
import json
import random
import sys

from websockets.asyncio.server import ServerConnection, serve


async def feed(socket: ServerConnection) -> None:
    """One subscriber."""
    names: list[str] = ["base"]
    rate = 2.0

    async def listen() -> None:
        nonlocal rate
        async for raw in socket:
            order = json.loads(raw)
            names.extend(order["args"])
            rate = float(order["rate"])

    reader = asyncio.create_task(listen())
    while not reader.done():
        await asyncio.sleep(random.expovariate(rate))
        some = random.sample(names, min(len(names), random.randint(1, 6)))
        await socket.send(
            json.dumps(
                [{"n": name, "bid": random.random(), "ask": random.random()} for name in some]
            )
        )


async def main() -> None:
    """Serve until killed."""
    async with serve(feed, sys.argv[1], int(sys.argv[2])) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
