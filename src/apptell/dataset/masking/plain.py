"""Marks the framing of DNS, HTTP/1, mail and QUIC that is kept.

Framing is the structure and the kind of messages: lengths, types, codes, verbs and the standard names of
header fields. Targets, values, names, credentials, addresses and bodies are not. Sources: RFC 1035 (DNS), RFC
9112 (HTTP/1.1), RFC 5321 (SMTP), RFC 1939 (POP3), RFC 9051 (IMAP), RFC 9000 (QUIC).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from apptell.dataset.masking.tls_records import mask_tls

if TYPE_CHECKING:
    from apptell.dataset.masking.board import Policy, Stream

DNS_PORTS: Final = frozenset((53, 5353, 5355))
_SMTP, _POP3, _IMAP = "smtp", "pop3", "imap"
_MAIL_OF_PORT: Final = {25: _SMTP, 587: _SMTP, 2525: _SMTP, 110: _POP3, 143: _IMAP}
MAIL_PORTS: Final = frozenset(_MAIL_OF_PORT)
_REQUEST: Final = re.compile(rb"([A-Z_-]{3,24} )[^\r\n]{1,65536}?( HTTP/1\.[01])\r?\n")
_STATUS: Final = re.compile(rb"(HTTP/1\.[01] [0-9]{3})[^\r\n]*\r?\n")
_METHODS: Final = frozenset(
    b"GET POST HEAD PUT DELETE OPTIONS PATCH CONNECT TRACE PROPFIND REPORT MKCOL NOTIFY SUBSCRIBE "
    b"UNSUBSCRIBE M-SEARCH SEARCH MOVE COPY LOCK UNLOCK".split()
)
_FIELDS: Final = frozenset(
    b"host user-agent accept accept-encoding accept-language accept-charset connection content-length "
    b"content-type content-encoding transfer-encoding cache-control pragma cookie set-cookie referer origin "
    b"authorization date server last-modified etag expires age vary range content-range accept-ranges "
    b"if-modified-since if-none-match location upgrade keep-alive te trailer via www-authenticate "
    b"proxy-authorization strict-transport-security x-requested-with x-forwarded-for x-forwarded-proto "
    b"x-forwarded-host".split()
)
_KEPT_VALUES: Final = frozenset((b"content-length", b"transfer-encoding"))
_VALUE: Final = re.compile(rb"[ \t]*(?:[0-9]{1,19}|chunked|gzip|identity|deflate)[ \t]*")
_FIELD: Final = re.compile(rb"([A-Za-z0-9-]{1,40}):([^\r\n]*)")
_REPLY: Final = {
    _SMTP: re.compile(rb"([0-9]{3})(?=[ \r\n-]|$)"),
    _POP3: re.compile(rb"(\+OK|-ERR)(?=[ \r\n]|$)"),
    _IMAP: re.compile(rb"(?i)[^ \r\n]{1,32} (OK|NO|BAD|BYE|CAPABILITY|LIST|SEARCH)(?=[ \r\n]|$)"),
}
"""What a server's lines begin with; the lines of a message that it sends begin with anything."""
_VERBS: Final = (
    rb"(EHLO|HELO|LHLO|MAIL FROM|RCPT TO|DATA|RSET|"
    rb"NOOP|QUIT|VRFY|EXPN|HELP|AUTH|STARTTLS|STLS|BDAT|USER|PASS|APOP|STAT|LIST|RETR|DELE|TOP|UIDL|CAPA|LOGIN|"
    rb"LOGOUT|CAPABILITY|AUTHENTICATE|SELECT|EXAMINE|FETCH|STORE|SEARCH|UID|IDLE|APPEND)(?=[ :\r\n]|$)"
)
_COMMAND: Final = {
    protocol: re.compile(rb"(?i)" + tag + _VERBS)
    for protocol, tag in ((_SMTP, b""), (_POP3, b""), (_IMAP, rb"[^ \r\n]{1,32} "))
}
"""What a client's lines begin with; only those of IMAP have a tag before it."""
_LITERAL: Final = re.compile(rb"\{([0-9]{1,9})\+?\}\r?\n\Z")
"""The end of an IMAP line behind which so many bytes follow that are no line (RFC 9051, section 4.3)."""
_DATA: Final = re.compile(rb"(?i)(?:DATA|BDAT [^\r\n]*)\r?\n")
_QUIC_VERSIONS: Final = frozenset((1, 0x6B3343CF, *range(0xFF000017, 0xFF000023)))


def mask_dns(stream: Stream, policy: Policy, *, has_length: bool) -> bool:
    """Marks what is kept of a DNS datagram, or of a TCP stream of messages with a length before each.

    False where it is not one whole message after the other: then nothing is marked.
    """
    data = bytes(stream.data)
    if not stream.has(0, len(stream)):
        return False
    marks: list[tuple[int, int, bool]] = []
    at = 0
    while True:
        size = len(data) - at
        if has_length:
            if size < 2:
                return False
            size = int.from_bytes(data[at : at + 2], "big")
            marks.append((at, at + 2, True))
            at += 2
        if at + size > len(data) or not _dns_message(data, at, at + size, policy, marks):
            return False
        at += size
        if at == len(data):
            break
    stream.set(0, len(data), kept=False)
    for begin, stop, kept in marks:
        stream.set(begin, stop, kept=kept)
    return True


def _dns_message(
    data: bytes, start: int, stop: int, policy: Policy, marks: list[tuple[int, int, bool]]
) -> bool:
    """Marks the header without its id, types, classes, times to live and lengths of one message."""
    if stop - start < 12:
        return False
    counts = [int.from_bytes(data[start + i : start + i + 2], "big") for i in (4, 6, 8, 10)]
    if not 0 < sum(counts) <= (stop - start) // 5:
        return False
    marks.append((start + 2, start + 12, True))
    at = start + 12
    for is_record in [False] * counts[0] + [True] * sum(counts[1:]):
        end = _dns_name(data, at, stop)
        if end is None:
            return False
        at = end
        fixed = 10 if is_record else 4
        if at + fixed > stop:
            return False
        marks.append((at, at + fixed, True))
        at += fixed
        if is_record:
            length = int.from_bytes(data[at - 2 : at], "big")
            if not policy.framing_only and int.from_bytes(data[at - 10 : at - 8], "big") in (1, 28):
                marks.append((at, min(at + length, stop), True))  # addresses are no names
            at += length
            if at > stop:
                return False
    return at == stop


def _dns_name(data: bytes, at: int, stop: int) -> int | None:
    """Where a name ends; None where it does not."""
    for _ in range(128):
        if at >= stop:
            return None
        length = data[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2 if at + 2 <= stop else None
        if length > 63:
            return None
        at += 1 + length
    return None


def mask_http(stream: Stream) -> bool:
    """Marks what is kept of one side of HTTP/1: lines, standard names of fields, lengths of bodies.

    False where it does not begin with a request or a status line.
    """
    data = bytes(stream.data)
    at = 0
    n_heads = 0
    while at < len(data):
        first = _REQUEST.match(data, at) or _STATUS.match(data, at)
        if first is None or not stream.has(at, first.end() - at):
            break
        if first.re is _REQUEST and first.group(1).strip() not in _METHODS:
            break
        if not n_heads:
            stream.set(0, len(data), kept=False)
        n_heads += 1
        for group in range(1, first.re.groups + 1):
            stream.set(*first.span(group), kept=True)
        _keep_line_end(stream, first.end())
        at = first.end()
        body = 0
        while True:
            end = data.find(b"\n", at)
            if end < 0 or not stream.has(at, end + 1 - at):
                return True  # the head is cut
            line = data[at:end].rstrip(b"\r")
            _keep_line_end(stream, end + 1)
            if not line:
                at = end + 1
                break
            field = _FIELD.fullmatch(line)
            if field is not None and field.group(1).lower() in _FIELDS:
                name, value = field.group(1).lower(), field.group(2)
                stream.set(at, at + len(name) + 1, kept=True)
                is_kept = name in _KEPT_VALUES and bool(_VALUE.fullmatch(value))
                if is_kept:
                    stream.set(at + len(name) + 1, at + len(line), kept=True)
                if name == b"content-length" and value.strip().isdigit():
                    body = min(int(value[:20]), 1 << 32)
            at = end + 1
        at += body
    return n_heads > 0


def _keep_line_end(stream: Stream, stop: int) -> None:
    begin = stop - 2 if stop >= 2 and stream.data[stop - 2] == 13 else stop - 1
    stream.set(begin, stop, kept=True)


def mask_mail(stream: Stream, ports: set[int | None], policy: Policy, *, is_server: bool) -> None:
    """Marks what is kept of one side of SMTP, POP3 or IMAP: the word of the protocol that a line begins with.

    What follows a change to TLS is read as TLS; the text of a message goes.

    Args:
        stream: the side's.
        ports: those of the flow; one is of ``MAIL_PORTS``.
        policy: what is kept.
        is_server: whether the side is the server's.
    """
    protocol = next(name for port, name in _MAIL_OF_PORT.items() if port in ports)
    begins = _REPLY[protocol] if is_server else _COMMAND[protocol]
    data = bytes(stream.data)
    stream.set(0, len(data), kept=False)
    at = 0
    while at < len(data):
        if data[at : at + 2] == b"\x16\x03":
            rest = stream.tail(at)
            mask_tls(rest, policy)
            stream.keep[at:] = rest.keep
            return
        end = data.find(b"\n", at)
        if end < 0 or not stream.has(at, end + 1 - at):
            return
        word = begins.match(data, at, end)
        if word is not None:
            stream.set(*word.span(word.lastindex or 0), kept=True)
        _keep_line_end(stream, end + 1)
        if not is_server and _DATA.match(data, at) is not None:
            return
        literal = _LITERAL.search(data, max(at, end - 16), end + 1) if protocol == _IMAP else None
        at = end + 1 + (int(literal[1]) if literal else 0)


def mask_quic(stream: Stream, policy: Policy) -> bool:
    """Keeps the first five bytes of a datagram with a long header; False where it has none.

    Initial packets are encrypted with keys that anyone can compute (RFC 9001, section 5.2), and other
    packets may lie behind one in the same datagram: all of it goes.
    """
    if not stream.has(0, 6) or stream.data[0] & 0x80 == 0:
        return False
    version = stream.number(1, 4)
    # Where the rest is zeroed anyway, only a version that is known vouches for these bytes; where it would be
    # kept, every other version with the fixed bit counts too. A known version may grease that bit (RFC 9287).
    is_likely = policy.keeps_unknown and stream.data[0] & 0x40 and version
    if version not in _QUIC_VERSIONS and not is_likely:
        return False
    stream.set(0, len(stream), kept=False)
    stream.set(0, 5, kept=True)
    return True
