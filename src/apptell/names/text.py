r"""Writes the bytes of names as printable ASCII, reversibly.

Names that protocols carry are ASCII (RFC 6066 section 3, RFC 5891), yet any byte can be sent. Printable ASCII
(0x21 to 0x7E) stands for itself, except the backslash and, where a column joins several values, the separator.
Everything else is escaped, so that two different names are never written alike and no byte of a name can
reach a terminal:

- ``\xNN``: a byte of ASCII (NUL, tab, space, backslash, ...) or one that is not valid UTF-8 (RFC 3629);
- ``\uNNNN`` and ``\UNNNNNNNN``: any other character, by its code point (``\u200b`` is a zero-width space).

A backslash in the text always begins an escape: a backslash that was sent is ``\x5c``. ``unescape`` gives the
bytes back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.kernels.compiled import subroutine

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROWTH: Final = 4
"""An escaped name is at most so many times as long as its bytes."""
NO_SEPARATOR: Final = -1
DOT: Final = 46
COMMA: Final = 44
_BACKSLASH: Final = 92
_ESCAPES: Final = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")


@subroutine
def _character(data: NDArray[np.uint8], at: Any, end: Any) -> tuple[Any, Any]:
    """The code point at data[at] and its length in UTF-8 (RFC 3629); (-1, 1) for a byte that is not valid."""
    first = np.int64(data[at])
    if first < 0x80:
        return first, 1
    if 0xC2 <= first <= 0xDF:
        size, code, least = 2, first & 0x1F, 0x80
    elif 0xE0 <= first <= 0xEF:
        size, code, least = 3, first & 0x0F, 0x800
    elif 0xF0 <= first <= 0xF4:
        size, code, least = 4, first & 0x07, 0x10000
    else:
        return np.int64(-1), 1
    if at + size > end:
        return np.int64(-1), 1
    for place in range(at + 1, at + size):
        if data[place] & 0xC0 != 0x80:
            return np.int64(-1), 1
        code = (code << 6) | (np.int64(data[place]) & 0x3F)
    if code < least or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        return np.int64(-1), 1
    return code, size


@subroutine
def escape_into(
    data: NDArray[np.uint8],
    begin: Any,
    end: Any,
    separator: int,
    lower: bool,
    out: NDArray[np.uint8],
    at: Any,
) -> Any:
    """Writes data[begin:end] as text into out[at:]; where it ends, or -1 if ``out`` has no room for all of it.

    Args:
        data: bytes that hold the name.
        begin: first byte of the name.
        end: what follows its last byte.
        separator: a printable character that is escaped too, or ``NO_SEPARATOR``.
        lower: write the letters A to Z in lower case.
        out: the text.
        at: where it begins.
    """
    place = begin
    while place < end:
        code, size = _character(data, place, end)
        if 32 < code < 127 and code != _BACKSLASH and code != separator:
            if at >= len(out):
                return -1
            out[at] = code + 32 if lower and 65 <= code <= 90 else code
            at += 1
        else:
            letter, digits = 120, 2  # x
            if code > 0xFFFF:
                letter, digits = 85, 8  # U
            elif code > 0x7F:
                letter, digits = 117, 4  # u
            elif code < 0:
                code = np.int64(data[place])
            if at + 2 + digits > len(out):
                return -1
            out[at] = _BACKSLASH
            out[at + 1] = letter
            for digit in range(digits):
                value = (code >> (4 * (digits - 1 - digit))) & 15
                out[at + 2 + digit] = 48 + value if value < 10 else 87 + value
            at += 2 + digits
        place += size
    return at


def escaped_room(size: int) -> NDArray[np.uint8]:
    """Room for the text of ``size`` bytes, however odd, within what the 32-bit offsets of Arrow reach."""
    return np.empty(min(GROWTH * size, 2**31 - 1), dtype=np.uint8)


def escape(name: bytes) -> str:
    """A name's bytes as text; see the module's rule."""
    return "".join(map(_escaped, name.decode("utf-8", "surrogateescape")))


def _escaped(letter: str) -> str:
    code = ord(letter)
    if 32 < code < 127 and code != _BACKSLASH:
        return letter
    if 0xDC80 <= code <= 0xDCFF:  # how "surrogateescape" writes a byte that is not valid
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def unescape(text: str) -> bytes:
    """The bytes of a name that ``escape`` wrote; what it cannot have written stands for itself."""

    def character(match: re.Match[str]) -> str:
        byte, short, long = match.groups()
        if byte is not None:
            # surrogates U+DC80 to U+DCFF stand for single bytes in "surrogateescape"
            value = int(byte, 16)
            return chr(value if value < 0x80 else 0xDC00 + value)
        code = int(short or long, 16)
        is_character = code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF
        return chr(code) if is_character else match[0]

    return _ESCAPES.sub(character, text).encode("utf-8", "surrogateescape")
