"""Replaces the addresses of flows, keeping prefixes.

Addresses: Crypto-PAn (J. Fan, J. Xu, M. Ammar, S. Moon, "Prefix-preserving IP address anonymization",
Computer Networks 46, 2004): two addresses that share their first k bits share the first k bits of their
replacements. The same key gives the same replacement in every dataset. Link-layer addresses are never in a
dataset; addresses in payload are removed by ``dataset.masking``.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import stat
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from apptell.errors import UsageError
from apptell.files import open_without_links
from apptell.flows.community_id import community_id
from apptell.names.domains import is_address

if TYPE_CHECKING:
    from pathlib import Path

    from apptell.flows.schema import FlowBatch

KEY_BYTES: Final = 32
"""16 of AES-128, 16 that the padding is made of."""
_MAX_KEY_FILE_BYTES: Final = 1024


class CryptoPan:
    """Replaces addresses and keeps their common prefixes."""

    def __init__(self, key: bytes) -> None:
        """Raises UsageError if the key does not have KEY_BYTES bytes."""
        if len(key) != KEY_BYTES:
            raise UsageError(f"key: {len(key)} bytes, not {KEY_BYTES}")
        self._cipher = Cipher(algorithms.AES(key[:16]), modes.ECB())
        self._pad = int.from_bytes(self._encrypt(key[16:]), "big")

    def address(self, text: str) -> str:
        """The replacement of one address.

        Raises:
            ValueError: the text is not an address.
        """
        parsed = ipaddress.ip_address(text)
        width = parsed.max_prefixlen
        value = int(parsed) << (128 - width)
        blocks = []
        for i in range(width):
            low = (1 << (128 - i)) - 1
            blocks.append(((value & ~low) | (self._pad & low)).to_bytes(16, "big"))
        coded = self._encrypt(b"".join(blocks))
        mask = 0
        for i in range(width):
            mask = mask << 1 | coded[16 * i] >> 7
        return str(type(parsed)(int(parsed) ^ mask))

    def _encrypt(self, data: bytes) -> bytes:
        encryptor = self._cipher.encryptor()
        return bytes(encryptor.update(data) + encryptor.finalize())


class Anonymizer:
    """Replaces the addresses of flows, and everything in a flow's columns that reveals them."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._pan = CryptoPan(key)
        self._secret = hashlib.blake2b(key, digest_size=32).digest()
        self._known: dict[str, str] = {}

    def __reduce__(self) -> tuple[type[Anonymizer], tuple[bytes]]:
        """Pickles only the key."""
        return Anonymizer, (self._key,)

    @classmethod
    def from_file(cls, path: Path) -> Anonymizer:
        """Reads the key from a file: 32 bytes, or 64 hexadecimal digits.

        The key can undo the replacement, so only this user may be able to read or write the file.

        Raises:
            UsageError: the file cannot be read, is a link or not a regular file, belongs to another user, can
                be read or written by others, or does not hold a key.
        """
        try:
            handle = open_without_links(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):  # before os.fdopen, which refuses a folder
            os.close(handle)
            raise UsageError(f"{path}: the key must be in a regular file")
        with os.fdopen(handle, "rb") as file:
            if found.st_uid != os.geteuid():
                raise UsageError(f"{path}: the key's file belongs to another user")
            if found.st_mode & 0o077:
                raise UsageError(
                    f"{path}: other users can use the key (mode {stat.S_IMODE(found.st_mode):04o}); "
                    "make the file private: chmod 600"
                )
            key = file.read(_MAX_KEY_FILE_BYTES)
        if len(key) != KEY_BYTES:
            try:
                key = bytes.fromhex(key.decode("ascii").strip())
            except ValueError:
                raise UsageError(f"{path}: neither 32 bytes nor 64 hexadecimal digits") from None
        return cls(key)

    def __call__(self, flows: FlowBatch) -> FlowBatch:
        """The flows with other addresses; Community IDs and connection ids follow them."""
        client, server = (self._column(flows, f"{side}_address") for side in ("client", "server"))
        changed = flows.with_columns(client_address=client, server_address=server)
        ids = zip(
            *(
                changed.column(name).to_pylist()
                for name in (
                    "protocol",
                    "client_address",
                    "client_port",
                    "server_address",
                    "server_port",
                )
            ),
            strict=True,
        )
        hashed = [None if None in row else community_id(*row) for row in ids]
        numbers = {
            name: pa.array(map(self._number, flows.column(name).to_pylist()), pa.uint64())
            for name in ("connection_id", "part_of")
            if name in flows.columns
        }
        named = {
            name: _without_addresses(flows.column(name))
            for name in ("server_name", "http_host", "dns_name")
            if name in flows.columns
        }
        return changed.with_columns(
            **named,
            **numbers,
            community_id=pa.array(hashed, pa.string()),
        )

    def _column(self, flows: FlowBatch, name: str) -> pa.Array:
        column = flows.column(name).dictionary_encode()
        new = [self._address(text) for text in column.dictionary.to_pylist()]
        return pa.DictionaryArray.from_arrays(
            column.indices, pa.array(new, pa.string())
        ).dictionary_decode()

    def _address(self, text: str) -> str:
        if text not in self._known:
            self._known[text] = self._pan.address(text)
        return self._known[text]

    def _number(self, value: int | None) -> int | None:
        """Replaces a connection's id, which would show whether guessed addresses are right."""
        if value is None:
            return None
        data = value.to_bytes(8, "big")
        return int.from_bytes(
            hashlib.blake2b(data, digest_size=8, key=self._secret).digest(), "big"
        )


def _without_addresses(names: pa.Array) -> pa.Array:
    """Names; null in the place of addresses, with a port or not, and of the reverse names of addresses."""
    table = {name: _holds_address(name) for name in set(names.to_pylist()) if name}
    return pa.array(
        [None if name is None or table.get(name) else name for name in names.to_pylist()],
        pa.string(),
    )


def _holds_address(name: str) -> bool:
    host = name.rpartition(":")[0] if name.count(":") == 1 or "]:" in name else name
    return is_address(host) or name.lower().rstrip(".").endswith(".arpa")
