"""A gRPC server that answers any call with random bytes, at once or as a stream."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def single(_request: bytes, _context: Any) -> bytes:
    """One answer, a few hundred bytes as a rule and some tens of kilobytes at times."""
    return random.randbytes(int(min(120_000, 150 * random.paretovariate(0.9))))


async def several(request: bytes, _context: Any) -> AsyncIterator[bytes]:
    """The requested number of answers, at intervals."""
    for _ in range(int.from_bytes(request[:4], "big")):
        await asyncio.sleep(random.expovariate(8))
        yield random.randbytes(random.randint(20, 1_500))


class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves every method without a schema."""

    def service(self, details: Any) -> Any:
        """Streams for ``Watch``, single answers for the rest."""
        if details.method.endswith("/Watch"):
            return grpc.unary_stream_rpc_method_handler(several)
        return grpc.unary_unary_rpc_method_handler(single)


async def main() -> None:
    """Serve until killed."""
    address, certificate, key = sys.argv[1:4]
    pair = (Path(key).read_bytes(), Path(certificate).read_bytes())
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
