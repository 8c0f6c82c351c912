"""Runs a stage of reading in a thread: it works ahead of the one that takes its items.

A stage is a generator. ``Ahead`` gives its items in their order, so what comes out does not depend on whether a
stage has a thread. Kernels hold no interpreter lock. While there are such threads, the interpreter changes
between threads more often, because a thread that has ended a kernel would otherwise wait longer for its next
turn than the kernel took.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")
AHEAD: Final = 4
"""Items that wait for the next stage."""
LIVE_ITEMS: Final = AHEAD + 2
"""Items of one stage that are in use at once: those that wait, the one being made and the one being used."""
_SWITCH_S: Final = 0.0005
"""Longest turn of a thread while another one waits for the interpreter; Python's own is 5 ms."""


class Ahead(Generic[T]):
    """The items of a generator, which runs in a thread and is at most ``AHEAD`` items ahead.

    An exception of the generator is raised behind the items before it. ``stop`` and ``join`` end the thread
    early; the generator is closed there.
    """

    def __init__(self, items: Generator[T, None, None], name: str) -> None:
        self._items = items
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_stopped = self._has_ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"apptell {name}", daemon=True)
        _Turns.shorten()
        self._thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._changed:
            while not self._waiting and not self._has_ended:
                self._changed.wait()
            if self._waiting:
                item = self._waiting.popleft()
                self._changed.notify()
                return item
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def stop(self) -> None:
        """Makes the thread end after the item that it is making; may be called repeatedly."""
        with self._changed:
            self._is_stopped = True
            self._waiting.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """Waits for the thread's end."""
        self._thread.join()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                if not self._put(item):
                    break
        except BaseException as raised:  # noqa: BLE001 - it is raised again by the thread that takes the items
            error = raised
        finally:
            self._items.close()
            _Turns.restore()
            with self._changed:
                self._error, self._has_ended = error, True
                self._changed.notify()

    def _put(self, item: T) -> bool:
        """Waits for room; False if nobody wants the item any more."""
        with self._changed:
            while len(self._waiting) >= AHEAD and not self._is_stopped:
                self._changed.wait()
            self._waiting.append(item)
            self._changed.notify()
            return not self._is_stopped


class _Turns:
    """How long a thread may keep the interpreter while others wait: shorter while stages have threads."""

    _lock = threading.Lock()
    _n_threads = 0
    _usual_s = 0.005

    @classmethod
    def shorten(cls) -> None:
        with cls._lock:
            if not cls._n_threads:
                cls._usual_s = sys.getswitchinterval()
                sys.setswitchinterval(min(_SWITCH_S, cls._usual_s))
            cls._n_threads += 1

    @classmethod
    def restore(cls) -> None:
        with cls._lock:
            cls._n_threads -= 1
            if not cls._n_threads:
                sys.setswitchinterval(cls._usual_s)
