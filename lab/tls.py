"""A private authority, ECDSA certificates and the devices' TLS settings."""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab import stacks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class TlsProfile:
    """The offers of a device's TLS stack.

    Read by every OpenSSL client of the device through ``OPENSSL_CONF``.
    """

    name: str
    groups: str
    ciphersuites: str
    ciphers: str
    signatures: str
    max_version: str = "TLSv1.3"
    options: str = ""
    """Values of OpenSSL's ``Options`` command, such as ``-SessionTicket``."""
    stack: str = "openssl"
    """What Python's libraries speak TLS with: ``openssl``, ``gnutls`` or ``rustls``."""
    chrome: bool = False
    """Whether HTTP goes by curl and BoringSSL in the manner of Chrome on Android."""
    priority: str = "NORMAL"
    """GnuTLS's priority string."""

    def openssl_conf(self) -> str:
        """The configuration file's text."""
        lines = [
            "openssl_conf = main",
            "[main]",
            "ssl_conf = ssl",
            "[ssl]",
            "system_default = device",
            "[device]",
        ]
        lines += [
            f"Groups = {self.groups}",
            f"Ciphersuites = {self.ciphersuites}",
            f"CipherString = {self.ciphers}",
        ]
        lines += [f"SignatureAlgorithms = {self.signatures}", f"MaxProtocol = {self.max_version}"]
        lines += ["MinProtocol = TLSv1.2"] + ([f"Options = {self.options}"] if self.options else [])
        return "\n".join(lines) + "\n"


_GCM = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
_CHACHA = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"
_MODERN = "ECDHE+AESGCM:ECDHE+CHACHA20"
_CONSCRYPT = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305:"
    "ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES256-SHA:AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA:AES256-SHA"
)
_SHORT = (
    "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256:"
    "ECDSA+SHA384:RSA-PSS+SHA384:RSA+SHA384:RSA-PSS+SHA512:RSA+SHA512"
)
_LONG = "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:" + _SHORT.replace(
    "ECDSA+SHA256:", ""
).replace("ECDSA+SHA384:", "")

PROFILES = {
    p.name: p
    for p in (
        TlsProfile(
            "openssl-default", "X25519:P-256:X448:P-521:P-384", _GCM, "DEFAULT:!aNULL", _LONG
        ),
        TlsProfile(
            "android-like",
            "X25519:P-256:P-384",
            _GCM,
            _CONSCRYPT,
            _SHORT,
            options="-EncryptThenMac",
        ),
        TlsProfile(
            "tls12-only",
            "P-256:P-384:X25519",
            _GCM,
            "ECDHE+AESGCM:ECDHE+AES",
            _SHORT,
            max_version="TLSv1.2",
        ),
        TlsProfile(
            "boringssl",
            "P-256:X25519:P-384",
            _GCM,
            _CONSCRYPT,
            _SHORT,
            options="-SessionTicket",
            chrome=True,
        ),
        TlsProfile(
            "gnutls",
            "X25519:P-256:P-384",
            _GCM,
            _MODERN,
            _SHORT,
            stack="gnutls",
            priority="NORMAL:-VERS-TLS1.1:-VERS-TLS1.0",
        ),
        TlsProfile("rustls", "X25519:P-256:P-384", _CHACHA, _MODERN, _SHORT, stack="rustls"),
    )
}


def client_context(profile: TlsProfile, ca: Path, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """A client context with the device's settings (OpenSSL's come from ``OPENSSL_CONF`` too)."""
    if profile.stack != "openssl":
        return stacks.context(profile.stack, ca, alpn, profile.priority)
    context = ssl.create_default_context(cafile=str(ca))
    context.set_ciphers(profile.ciphers)
    if profile.max_version == "TLSv1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class Authority:
    """One private authority for every server of a day, and its certificates as PEM files."""

    def __init__(self, folder: Path, title: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
        self.certificate = folder / "ca.pem"
        signed = self._builder(self._name, self._key).add_extension(
            x509.BasicConstraints(True, 0), True
        )
        self.certificate.write_bytes(
            signed.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        start, end = now - dt.timedelta(days=30), now + dt.timedelta(days=60)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return builder.not_valid_before(start).not_valid_after(end)

    def issue(self, label: str, names: list[str]) -> tuple[Path, Path]:
        """Certificate and key files for ``names``; ``<label>.both.pem`` holds the two together."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = self._builder(subject, key).add_extension(alternatives, False)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(
            serialization.Encoding.PEM
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        paths = self.folder / f"{label}.crt", self.folder / f"{label}.key"
        for path, data in (
            (paths[0], certificate),
            (paths[1], private),
            (self.folder / f"{label}.both.pem", certificate + private),
        ):
            path.write_bytes(data)
            path.chmod(
                0o644
            )  # servers read it under users of their own; the keys live for one recording
        return paths
