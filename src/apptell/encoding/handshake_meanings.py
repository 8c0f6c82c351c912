"""What the tokens of TLS and DTLS handshake messages, names and words mean; plain Python.

The same fields as in ``handshake``, with the words for each. Numbers have the names of IANA's registries for
TLS, where a capture of a phone commonly shows them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from apptell.encoding import tokens as t
from apptell.encoding.token_sink import SIDES, Chunk, TokenSink, about, fold, fold_bytes, size_step

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_SIZE: Final = frozenset({0, 21, 35, 41, 44, 51, 65037})
_LISTS: Final = {10: (2, 2), 13: (2, 2), 43: (1, 2)}
"""Extensions that hold a list: bytes before it, bytes of an entry."""
_NAME_MODE: Final = {"on": 0, "hashed": 2}
MESSAGES: Final = {
    0: "HelloRequest", 1: "ClientHello", 2: "ServerHello", 4: "NewSessionTicket", 8: "EncryptedExtensions",
    11: "Certificate", 12: "ServerKeyExchange", 13: "CertificateRequest", 14: "ServerHelloDone",
    15: "CertificateVerify", 16: "ClientKeyExchange", 20: "Finished", 22: "CertificateStatus",
}  # fmt: skip
"""Handshake messages by type (RFC 8446 and RFC 5246)."""
EXTENSIONS: Final = {
    0: "server_name", 1: "max_fragment_length", 5: "status_request", 10: "supported_groups",
    11: "ec_point_formats", 13: "signature_algorithms", 14: "use_srtp", 16: "ALPN",
    18: "signed_certificate_timestamp", 21: "padding", 22: "encrypt_then_mac", 23: "extended_master_secret",
    27: "compress_certificate", 28: "record_size_limit", 34: "delegated_credential", 35: "session_ticket",
    41: "pre_shared_key", 42: "early_data", 43: "supported_versions", 44: "cookie",
    45: "psk_key_exchange_modes", 49: "post_handshake_auth", 50: "signature_algorithms_cert",
    51: "key_share", 57: "quic_transport_parameters", 13172: "next_protocol_negotiation",
    17513: "application_settings (old)", 17613: "application_settings", 65037: "encrypted_client_hello",
    65281: "renegotiation_info",
}  # fmt: skip
"""Names of extensions (IANA, TLS ExtensionType values)."""
CIPHERS: Final = {
    0x1301: "TLS_AES_128_GCM_SHA256", 0x1302: "TLS_AES_256_GCM_SHA384", 0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0xC02B: "ECDHE-ECDSA-AES128-GCM-SHA256", 0xC02C: "ECDHE-ECDSA-AES256-GCM-SHA384",
    0xC02F: "ECDHE-RSA-AES128-GCM-SHA256", 0xC030: "ECDHE-RSA-AES256-GCM-SHA384",
    0xCCA8: "ECDHE-RSA-CHACHA20-POLY1305", 0xCCA9: "ECDHE-ECDSA-CHACHA20-POLY1305",
    0xC013: "ECDHE-RSA-AES128-SHA", 0xC014: "ECDHE-RSA-AES256-SHA", 0x009C: "AES128-GCM-SHA256",
    0x009D: "AES256-GCM-SHA384", 0x002F: "AES128-SHA", 0x0035: "AES256-SHA",
    0x00FF: "empty renegotiation info",
}  # fmt: skip
"""Names of common cipher suites, as OpenSSL writes them."""


def is_grease(code: int) -> bool:
    """Whether a number is reserved to be ignored (RFC 8701)."""
    return code & 0x0F0F == 0x0A0A and code >> 8 == code & 0xFF


def read_messages(sink: TokenSink, side: int, shake: Chunk) -> None:
    """Handshake messages in plain text, one behind the other."""
    while len(shake) >= 4:
        kind, size = shake.data[0], shake.number(1, 3)
        message, shake = shake.part(0, 4 + size), shake.part(4 + size)
        name = MESSAGES.get(kind, f"handshake message {kind}")
        sink.put(
            fold(fold(t.MESSAGE, side), kind, size_step(size)),
            "handshake message",
            f"{name} {SIDES[side]}, {about(size)}",
            message.spans,
        )
        sink.mark(name, message.spans)
        if kind == 1:
            read_client_hello(sink, message, is_datagram=False)
        elif kind == 2:
            _read_server_hello(sink, message)
        elif kind == 11:
            _read_certificates(sink, message)
        elif kind > 24:
            return


def _extensions(rest: Chunk) -> Iterator[tuple[int, int, Chunk, Chunk]]:
    """Code, size, value and whole of each extension, the last perhaps cut."""
    while len(rest) >= 4:
        size = rest.number(2)
        yield rest.number(0), size, rest.part(4, 4 + size), rest.part(0, 4 + size)
        rest = rest.part(4 + size)


def extension_name(code: int) -> str:
    """An extension in words."""
    return EXTENSIONS.get(code, f"0x{code:04x}")


def read_client_hello(sink: TokenSink, hello: Chunk, *, is_datagram: bool) -> None:
    """A ClientHello from its type on, perhaps cut at its end."""
    if len(hello) < 39:
        return
    field, size = "client hello", len(hello)
    version = hello.number(4)
    sink.put(
        fold(t.HELLO, 1, version), field, f"hello version 0x{version:04x}", hello.part(4, 6).spans
    )
    sink.put(fold(t.HELLO, 2, size_step(size)), field, f"client hello of {about(size)}")
    sink.mark("random", hello.part(6, 38).spans)
    n = hello.data[38]
    sink.put(fold(t.HELLO, 3, n), field, f"session id of {n} bytes", hello.part(38, 39).spans)
    sink.mark("session id", hello.part(38, 39 + n).spans)
    rest = hello.part(39 + n)
    if is_datagram:
        if not len(rest):
            return
        rest = rest.part(1 + rest.data[0])
    if len(rest) < 2:
        return
    offered = rest.part(2, 2 + rest.number(0))
    sink.mark("cipher list", rest.part(0, 2 + rest.number(0)).spans)
    rest = rest.part(2 + rest.number(0))
    order = []
    for at in range(0, len(offered) - 1, 2):
        code = offered.number(at)
        if not is_grease(code):
            order.append(code)
            name = CIPHERS.get(code, f"0x{code:04x}")
            spans = offered.part(at, at + 2).spans
            sink.put(fold(t.CIPHER, code), "cipher", f"cipher {name} offered", spans)
    sink.put(
        fold(t.CIPHERS, 0, *(code + 1 for code in order)),
        "cipher list",
        f"cipher list order ({len(order)} ciphers)",
        offered.spans,
    )
    if not len(rest):
        return
    n = rest.data[0]
    sink.put(fold(t.HELLO, 4, n), field, f"{n} compression methods", rest.part(0, 1 + n).spans)
    _read_client_extensions(sink, rest.part(1 + n + 2))


def _read_client_extensions(sink: TokenSink, rest: Chunk) -> None:
    codes, together = [], 0
    for code, size, value, whole in _extensions(rest):
        name = extension_name(code)
        if is_grease(code):
            sink.mark("GREASE", whole.spans)
            continue
        codes.append(code)
        together ^= fold(t.EXTENSIONS, 2, code)
        sink.mark(f"extension {name}", whole.spans)
        sink.put(fold(t.EXTENSION, code), "extension", f"extension {name}", whole.part(0, 4).spans)
        if code == 0:
            if len(value) >= 5:
                sink.put(
                    fold(t.NAME_SIZE, size - 5),
                    "server name",
                    f"server name of {size - 5} characters",
                    whole.part(2, 9).spans,
                )
                if value.data[5:].strip(b"\0"):
                    read_host_name(sink, value.part(5))
        elif code == 16:
            sink.put(
                fold_bytes(t.ALPN, value.data), "ALPN", f"ALPN {_protocols(value)}", value.spans
            )
        elif code == 51 or code in _LISTS:
            listed = list(_shares(value.data[2:])) if code == 51 else _listed(code, value)
            sink.put(
                fold(t.EXTENSION_LIST, code, *(each + 1 for each in listed)),
                "extension",
                f"{name}: {', '.join(f'0x{each:04x}' for each in listed[:8])}",
                value.spans,
            )
        elif code not in _NO_SIZE:
            sink.put(
                fold(t.EXTENSION_SIZE, code, size),
                "extension",
                f"extension {name} of {size} bytes",
                whole.part(2, 4).spans,
            )
    sink.put(
        fold(t.EXTENSIONS, 1, *(code + 1 for code in codes)),
        "extension list",
        f"extension order ({len(codes)} extensions)",
        rest.spans,
    )
    sink.put(together, "extension list", f"set of {len(codes)} extensions", rest.spans)


def _listed(code: int, value: Chunk) -> list[int]:
    before, width = _LISTS[code]
    data = value.data[before:]
    found = [int.from_bytes(data[at : at + 2]) for at in range(0, len(data) - 1, width)]
    return [each for each in found if not is_grease(each)]


def _shares(value: bytes) -> Iterator[int]:
    """Groups of key shares."""
    while len(value) >= 2:
        group = int.from_bytes(value[:2])
        if not is_grease(group):
            yield group
        if len(value) < 4:
            return
        value = value[4 + int.from_bytes(value[2:4]) :]


def _protocols(value: Chunk) -> str:
    """The names of an ALPN extension."""
    names, rest = [], value.data[2:]
    while rest:
        names.append(rest[1 : 1 + rest[0]].decode("ascii", "replace"))
        rest = rest[1 + rest[0] :]
    return ", ".join(names)


def _read_server_hello(sink: TokenSink, hello: Chunk) -> None:
    if len(hello) < 39:
        return
    field, version, n = "server hello", hello.number(4), hello.data[38]
    spans = hello.part(4, 6).spans
    sink.put(fold(t.SERVER_HELLO, 1, version), field, f"server version 0x{version:04x}", spans)
    sink.put(
        fold(t.SERVER_HELLO, 2, size_step(len(hello))),
        field,
        f"server hello of {about(len(hello))}",
    )
    spans = hello.part(38, 39).spans
    sink.put(fold(t.SERVER_HELLO, 3, n), field, f"server's session id of {n} bytes", spans)
    sink.mark("random", hello.part(6, 38).spans)
    rest = hello.part(39 + n)
    if len(rest) < 3:
        return
    cipher = rest.number(0)
    sink.put(
        fold(t.SERVER_HELLO, 4, cipher),
        field,
        f"server chose cipher {CIPHERS.get(cipher, f'0x{cipher:04x}')}",
        rest.part(0, 2).spans,
    )
    sink.mark("cipher", rest.part(0, 2).spans)
    parts: list[int] = []
    for code, size, value, whole in _extensions(rest.part(5)):
        name = extension_name(code)
        sink.mark(f"extension {name}", whole.spans)
        if code == 16:
            words = f"server chose ALPN {_protocols(value)}"
            sink.put(fold_bytes(fold(t.ALPN, 1), value.data), "ALPN", words, value.spans)
        parts += [code, size]
        words = f"server extension {name} of {size} bytes"
        sink.put(fold(t.SERVER_EXTENSION, code, size), field, words, whole.part(0, 4).spans)
    sink.put(
        fold(t.SERVER_EXTENSIONS, 0, *parts),
        field,
        f"server extensions in order ({len(parts) // 2})",
        rest.part(5).spans,
    )


def _read_certificates(sink: TokenSink, message: Chunk) -> None:
    if len(message) < 7:
        return
    sizes, rest = [], message.part(7)
    while len(rest) >= 3:
        size = rest.number(0, 3)
        sizes.append(size)
        rest = rest.part(3 + size)
    sink.put(
        fold(t.CERTIFICATE, 0, *map(size_step, sizes)),
        "certificate",
        f"certificates of {', '.join(map(about, sizes[:4]))}",
        message.spans,
    )
    read_words(sink, message.part(7))


def read_host_name(sink: TokenSink, name: Chunk) -> None:
    """A host name: each of its endings, and with names on its words."""
    if sink.names == "masked" or not len(name):
        return
    key = fold(t.NAME_PART, _NAME_MODE[sink.names])
    lower = bytes(byte | 32 if 65 <= byte <= 90 else byte for byte in name.data)
    labels = lower.split(b".")
    at = len(lower)
    for count, label in enumerate(reversed(labels)):
        key = fold(key, *label, ord("."))
        at -= len(label) + (count > 0)
        if count >= 1:
            ending = _text(lower[at:])
            words = f"domain {ending}" if sink.names == "on" else f"domain {ending} (hashed)"
            sink.put(key, "server name", words, name.part(at).spans)
    if sink.names == "on":
        _read_letters(sink, t.NAME_WORD, name, "server name", "in the server name")


def _read_letters(sink: TokenSink, kind: int, run: Chunk, field: str, where: str) -> None:
    for match in re.finditer(rb"[A-Za-z]{3,}", run.data):
        word = match[0].lower()
        sink.put(
            fold(kind, 0, *word),
            field,
            f"word {_text(word)!r} {where}",
            run.part(*match.span()).spans,
        )


def read_words(sink: TokenSink, data: Chunk) -> None:
    """Runs of four printable bytes or more: the run, its letters, its host name."""
    for match in re.finditer(rb"[!-~]{4,}", data.data):
        run = data.part(*match.span())
        host = _host_in(run.data)
        if host is not None:
            read_host_name(sink, run.part(*host))
        elif len(run) <= 40:
            sink.put(fold_bytes(t.WORD, run.data), "text", f"text {_text(run.data)!r}", run.spans)
            _read_letters(sink, t.LETTERS, run, "text", "in plain text")


def _host_in(run: bytes) -> tuple[int, int] | None:
    """Where the first run of labels and dots lies that ends in two letters or more."""
    for match in re.finditer(rb"[A-Za-z0-9_-][A-Za-z0-9._-]*", run):
        if re.fullmatch(rb".+\.[A-Za-z]{2,}", match[0], re.DOTALL):
            return match.span()
    return None


def _text(data: bytes) -> str:
    return data.decode("latin-1")
