"""Certificates, and TLS 1.2 handshakes of a real client and a real server (OpenSSL), as messages of a flow."""

from __future__ import annotations

import contextlib
import datetime as dt
import ssl
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("Chat.Example.org", "*.example.net")
Message = tuple[bool, bytes]


def made(names: Sequence[str], common: str = "common.example") -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
    )
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternative, critical=False)
    return (
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def der(names: Sequence[str], common: str = "common.example") -> bytes:
    return ssl.PEM_cert_to_DER_cert(made(names, common)[0].decode())


def handshake(
    folder: Path, names: Sequence[str], version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
) -> list[Message]:
    """What an OpenSSL client and an OpenSSL server say to each other, each flight as one message."""
    certificate, key = made(names)
    (folder / "server.pem").write_bytes(certificate + key)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(folder / "server.pem")
    server_side.maximum_version = version
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.check_hostname, client_side.verify_mode = False, ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(down, up)
    server = server_side.wrap_bio(up, down, server_side=True)
    said: list[Message] = []
    for end, out, to_server in ((client, up, True), (server, down, False)) * 3:
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
        sent = out.read()
        if sent:
            said.append((to_server, sent))
            out.write(sent)
    assert client.version() == ("TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
    return said


@cache
def spoken(names: tuple[str, ...] = NAMES) -> tuple[Message, ...]:
    """A TLS 1.2 handshake whose server has these names, made once."""
    with tempfile.TemporaryDirectory() as folder:
        return tuple(handshake(Path(folder), names))


def cut(messages: Sequence[Message], size: int) -> list[Message]:
    """The same in segments of at most ``size`` bytes."""
    return [
        (to_server, sent[at : at + size])
        for to_server, sent in messages
        for at in range(0, len(sent), size)
    ]
