"""Hand-made ClientHello messages and flows, and a plain reading of a hello from the RFCs."""

from __future__ import annotations

import struct

from apptell.flows.schema import FlowBatch
from apptell.names.text import escape

CHROME_CIPHERS = [0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8]
CHROME_CIPHERS += [0xC013, 0xC014, 0x009C, 0x009D, 0x002F, 0x0035]
CHROME_ALGORITHMS = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601]


def codes(values: list[int]) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)


def sized(data: bytes, n: int = 2) -> bytes:
    return len(data).to_bytes(n, "big") + data


def server_name(name: bytes) -> tuple[int, bytes]:
    return 0, sized(b"\0" + sized(name))


def alpn(*protocols: bytes) -> tuple[int, bytes]:
    return 16, sized(b"".join(sized(protocol, 1) for protocol in protocols))


def versions(*values: int) -> tuple[int, bytes]:
    return 43, sized(codes(list(values)), 1)


def algorithms(*values: int) -> tuple[int, bytes]:
    return 13, sized(codes(list(values)))


def hello(
    extensions: list[tuple[int, bytes]] | None,
    ciphers: list[int] | None = None,
    version: int = 0x0303,
    cookie: bytes | None = None,
) -> bytes:
    """A ClientHello message (RFC 8446, section 4.1.2), type and length included."""
    body = version.to_bytes(2, "big") + bytes(range(32)) + sized(b"\x07" * 32, 1)
    if cookie is not None:
        body += sized(cookie, 1)
    body += sized(codes(CHROME_CIPHERS if ciphers is None else ciphers)) + b"\1\0"
    if extensions is not None:
        body += sized(b"".join(codes([kind]) + sized(data) for kind, data in extensions))
    return b"\1" + sized(body, 3)


def records(message: bytes, size: int = 16384) -> bytes:
    """TLS records of at most ``size`` bytes that carry a handshake message."""
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + sized(part) for part in parts)


def flows(
    conversations: list[list[tuple[bool, bytes]]],
    protocol: int = 6,
    lengths: dict[tuple[int, int], int] | None = None,
    offsets: list[list[int]] | None = None,
) -> FlowBatch:
    """Flows of (to server, bytes) segments, in order unless ``offsets`` gives their places in the stream.

    ``lengths`` gives true lengths by (flow, segment).
    """
    lengths = lengths or {}
    n = len(conversations)
    columns = {} if offsets is None else {"segment_offset": offsets}
    return FlowBatch.from_columns(
        {
            "protocol": [protocol] * n,
            "client_address": ["10.0.0.1"] * n,
            "server_address": ["10.0.0.2"] * n,
            "server_port": [53 if protocol == 17 else 443] * n,
            "start_ns": [0] * n,
            "segment_length": [
                [lengths.get((i, j), len(data)) for j, (_, data) in enumerate(segments)]
                for i, segments in enumerate(conversations)
            ],
            "segment_to_server": [[side for side, _ in segments] for segments in conversations],
            "segment_time_ns": [list(range(len(segments))) for segments in conversations],
            "segment_bytes": [[data for _, data in segments] for segments in conversations],
            **columns,
        }
    )


def read_plainly(message: bytes) -> tuple[str | None, str | None]:
    """Server name and ALPN of a message, straight from RFC 8446, 6066 and 7301, as far as it goes."""
    name: str | None = None
    offered: list[str] = []
    try:
        end = min(len(message), 4 + int.from_bytes(message[1:4], "big"))
        message = message[:end]
        at = 38
        at += 1 + message[at]
        (size,) = struct.unpack_from(">H", message, at)
        at += 2 + size
        if at > end:
            return None, None
        at += 1 + message[at]
        (size,) = struct.unpack_from(">H", message, at)
        at += 2
        if size and at + size <= end:
            end = at + size
        while size and at + 4 <= end:
            kind, length = struct.unpack_from(">2H", message, at)
            data = message[at + 4 : min(end, at + 4 + length)]
            at += 4 + length
            if kind == 0 and not name and len(data) >= 5 and data[2] == 0:
                (length_of_name,) = struct.unpack_from(">H", data, 3)
                if 0 < length_of_name <= len(data) - 5:
                    name = escape(data[5 : 5 + length_of_name])
            if kind == 16 and len(data) == length:
                place = 2
                while place < len(data):
                    value = data[place + 1 : place + 1 + data[place]]
                    if len(value) < data[place]:
                        break
                    is_grease = len(value) == 2 and value[0] == value[1] and value[0] & 15 == 10
                    if value and not is_grease:
                        offered.append(escape(value).replace(",", r"\x2c"))
                    place += 1 + data[place]
    except (IndexError, struct.error):
        pass
    return name or None, ",".join(offered) or None
