"""The token of a server, and the names that it answers to."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from apptell.errors import UsageError
from apptell.web.guard import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LEAST_CHARACTERS: Final = 16
_MOST_BYTES: Final = 4096


def read_token(file: Path | None, host: str) -> str | None:
    """The token in a file; None where none is needed.

    Args:
        file: with the token, which only its owner and group may read.
        host: where the server listens.

    Raises:
        UsageError: a token is needed and none was named, or the file has none that is fit.
    """
    if file is None:
        if not is_loopback(host):
            raise UsageError(
                f"{host} can be reached by other machines: name a file with a token, --token-file FILE "
                "(to make one: openssl rand -hex 24 > FILE; chmod 600 FILE)"
            )
        return None
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            text = stream.read(_MOST_BYTES).decode("utf-8", "strict").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise UsageError(f"{file}: {reason}") from error
    if stat.S_ISREG(mode) and mode & 0o007:
        raise UsageError(f"{file}: everyone may read the token: chmod 600 {file}")
    if len(text) < LEAST_CHARACTERS or not text.isprintable() or " " in text:
        raise UsageError(
            f"{file}: a token is one line of at least {LEAST_CHARACTERS} characters without spaces"
        )
    return text


def allowed_hosts(host: str, names: Iterable[str]) -> set[str]:
    """The names and addresses that a request's ``Host`` may have.

    Args:
        host: where the server listens.
        names: further names.
    """
    own = {"127.0.0.1", "::1", "localhost"} if is_loopback(host) else {host}
    return {name.lower() for name in (*own, *names)}
