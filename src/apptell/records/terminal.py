r"""Cleans text from data before it is shown on a terminal.

Names of servers, apps, files and columns come from strangers. An escape sequence in one of them could move the
cursor, set the window's title or answer for the user; a bidirectional control or an invisible character makes
one name look like another. Each such character is shown as ``\uXXXX`` (UTF-16 code units), which in JSON is
the same text. The sinks are ``TerminalConsole``, which draws apptell's own tables and colours around cleaned
text, and the standard streams of the command line (``apptell.cli.standard_streams``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TextIO

from rich.console import Console
from rich.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import ConsoleOptions, RenderableType

_UNSAFE: Final = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and line feed, DEL, C1
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # invisible
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"  # and bidirectional
    "\ud800-\udfff"  # bytes that are no text (PEP 383)
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "]"
)
_LINES: Final = re.compile("[\t\n]")


def clean(text: str) -> str:
    """The text with control and invisible characters escaped; line feeds and tabs stay."""
    return _UNSAFE.sub(_escape, text)


def clean_line(text: str) -> str:
    """The same as one line: line feeds and tabs are escaped too."""
    return _LINES.sub(_escape, clean(text))


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


class TerminalConsole(Console):
    """Rich's console for text from data: it cleans what it draws, and knows no markup and no names of emoji.

    Args:
        stream: where it draws; the standard streams of the command line pass its own colours on.
        soft_wrap: whether long lines are left to the terminal to wrap.
    """

    def __init__(self, stream: TextIO, *, soft_wrap: bool = False) -> None:
        super().__init__(
            file=getattr(stream, "drawn", stream),
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=soft_wrap,
        )

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is drawn, in segments whose text is cleaned; controls are our own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(clean(segment.text), segment.style)
