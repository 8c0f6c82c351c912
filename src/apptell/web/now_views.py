"""Turns the board of the last minutes into the text of views, and describes what a feed of a board has.

The text for a view is made at most once a second, however many pages show it, and less often when many
different views take too much time: the path of packets shares the interpreter with them.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apptell.web.now_board import NowBoard

EVERY_S: Final = 1.0
_MOST_VIEWS: Final = 256
"""Views whose text is kept."""
_FORGOTTEN_S: Final = 60.0
"""Seconds after which a view that nobody asks for is not counted."""
_SHARE: Final = 0.1
"""Of a processor that making the text of all views may take; with more work, views are made less often."""


class NowSource(Protocol):
    """What fills the page Now: a pipeline in this process, or a running ``live``."""

    name: str
    """Of the source, for people."""

    @property
    def is_ready(self) -> bool:
        """Whether packets are being read."""

    def text(self, wanted: Mapping[str, str]) -> str:
        """A view as JSON in one line, at most a second old."""

    def metrics_text(self) -> str:
        """Counters in Prometheus' text form."""


class NowViews:
    """The views of a board.

    Args:
        board: of the last minutes.
    """

    def __init__(self, board: NowBoard) -> None:
        self._board = board
        self._lock = threading.Lock()
        self._made: dict[tuple[tuple[str, str], ...], tuple[float, str]] = {}
        self._cost_s = 0.0

    def text(self, wanted: Mapping[str, str], counts: Callable[[], dict[str, Any]]) -> str:
        """A view as JSON in one line, as new as the time for views allows.

        Args:
            wanted: as in ``NowBoard.view``.
            counts: gives the counters of the source.
        """
        key = tuple(sorted(wanted.items()))
        with self._lock:
            made_s, text = self._made.get(key, (-EVERY_S, ""))
            now = time.monotonic()
            if text and now - made_s < self._every_s(now):
                return text
            view = self._board.view(wanted)
            latest = view.pop("latest")
            text = json.dumps({**view, "counts": counts()}, separators=(",", ":"))
            text = f'{text[:-1]},"latest":[{",".join(latest)}]}}'
            if len(self._made) >= _MOST_VIEWS:
                self._made.clear()
            self._made[key] = (now, text)
            self._cost_s = 0.8 * self._cost_s + 0.2 * (time.monotonic() - now)
            return text

    def _every_s(self, now: float) -> float:
        """Seconds until a view is made again."""
        asked = sum(now - made_s < _FORGOTTEN_S for made_s, _ in self._made.values())
        return max(EVERY_S * 0.9, asked * self._cost_s / _SHARE)
