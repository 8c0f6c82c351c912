"""Reads the names in servers' certificates from kept segments: FlowBatch in, lists of names out.

A certificate is in plain text up to TLS 1.2 (RFC 5246, section 7.4.2); TLS 1.3 encrypts it. Its names are those
of the extension *subjectAltName* (RFC 5280, section 4.2.1.6), or the common name of its subject if it has none.

Certificates are evidence only for candidates of ``apptell discover``, which reads each capture once and asks
for few flows, so they are read in plain Python and are no column of a flow.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.names.text import escape

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from numpy.typing import NDArray

    from apptell.flows import FlowBatch
    from apptell.flows.list_columns import SegmentColumns

MOST_NAMES: Final = 20
"""Names of a certificate that are read at most."""
_LONGEST_NAME: Final = 253  # RFC 1035, section 2.3.4, without the final dot
_MOST_BYTES: Final = 32 << 10
"""Bytes of a server's stream that are joined."""
_TCP, _HANDSHAKE, _SERVER_HELLO, _CERTIFICATE = 6, 22, 2, 11


def certificate_names(flows: FlowBatch) -> list[tuple[str, ...]]:
    """The names in the certificate that each flow's server sent in plain text.

    Args:
        flows: n flows with the core and segments groups.

    Returns:
        For each flow its server's names, escaped as in ``names.text``, in lower case and without commas; none
        for a flow whose server sent no certificate in plain text, or whose certificate was not kept whole or is
        damaged.
    """
    found: list[tuple[str, ...]] = [()] * len(flows)
    segments = flows.segments()
    read: dict[bytes, tuple[str, ...]] = {}
    openings = _openings(segments, flows.numpy("protocol") == _TCP)
    for flow, opening in openings.items():
        content = _leaf(_handshake(_stream(segments, flow, opening)))
        if content is not None:
            if content not in read:
                read[content] = names_of(content)
            found[flow] = read[content]
    return found


def names_of(certificate: bytes) -> tuple[str, ...]:
    """The names in a certificate (DER); none if it is damaged.

    Subject alternative names if there are any, and the subject's common name otherwise.
    """
    from cryptography import x509

    names: list[str] = []
    # a certificate is read even if it breaks a rule of which the library only warns
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parsed = x509.load_der_x509_certificate(certificate)
            names = _alternative_names(parsed) or [
                str(each.value)
                for each in parsed.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            ]
        except (
            *(ValueError, TypeError),
            *(x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType),
        ):
            return ()
    texts = (escape(name.lower().encode("utf-8", "surrogatepass")) for name in names[:MOST_NAMES])
    short = (text for text in texts if 0 < len(text) <= _LONGEST_NAME and "," not in text)
    return tuple(dict.fromkeys(short))


def _alternative_names(certificate: Certificate) -> list[str]:
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _openings(segments: SegmentColumns, wanted: NDArray[np.bool_]) -> dict[int, int]:
    """Flows of which a segment to the client begins with a ServerHello, and the row of the earliest one."""
    size = segments.start[1:] - segments.start[:-1]
    rows = np.flatnonzero(~segments.to_server & (size >= 6))
    begin, data = segments.start[rows], segments.data
    is_record = (data[begin] == _HANDSHAKE) & (data[begin + 1] == 3)
    rows = rows[is_record & (data[begin + 5] == _SERVER_HELLO)]
    flow = np.searchsorted(segments.first, rows, side="right") - 1
    latest_first = np.argsort(-segments.offset[rows], kind="stable")
    rows, flow = rows[latest_first], flow[latest_first]
    kept = wanted[flow]
    return dict(zip(flow[kept].tolist(), rows[kept].tolist(), strict=True))


def _stream(segments: SegmentColumns, flow: int, opening: int) -> bytes:
    """What a server sent from a segment on, up to a gap or to bytes that were sent in two versions."""
    base = int(segments.offset[opening])
    rows = np.arange(segments.first[flow], segments.first[flow + 1])
    rows = rows[~segments.to_server[rows] & (segments.offset[rows] >= base)]
    joined = bytearray()
    for row in rows[np.argsort(segments.offset[rows], kind="stable")].tolist():
        sent = segments.data[segments.start[row] : segments.start[row + 1]].tobytes()
        place = int(segments.offset[row]) - base
        if place > len(joined) or len(joined) > _MOST_BYTES:
            break
        again = bytes(joined[place : place + len(sent)])
        if not sent.startswith(again):
            same = next(i for i, (a, b) in enumerate(zip(again, sent, strict=False)) if a != b)
            del joined[place + same :]
            break
        joined += sent[len(again) :]
    return bytes(joined)


def _handshake(stream: bytes) -> bytes:
    """The messages in the handshake records at the beginning of a stream, perhaps cut at their end."""
    at, messages = 0, b""
    while at + 5 <= len(stream) and stream[at] == _HANDSHAKE and stream[at + 1] == 3:
        stop = at + 5 + int.from_bytes(stream[at + 3 : at + 5], "big")
        messages += stream[at + 5 : stop]
        at = stop
    return messages


def _leaf(messages: bytes) -> bytes | None:
    """The server's own certificate: the first of the Certificate message. None if it is not there whole."""
    at = 0
    while at + 4 <= len(messages):
        stop = at + 4 + int.from_bytes(messages[at + 1 : at + 4], "big")
        if messages[at] == _CERTIFICATE:
            begin = at + 10
            size = int.from_bytes(messages[at + 7 : begin], "big")
            content = messages[begin : begin + size]
            return content if 0 < size == len(content) and begin + size <= stop else None
        at = stop
    return None
