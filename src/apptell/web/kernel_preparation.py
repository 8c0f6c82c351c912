"""Compiles what captures need before the first of them is read, so that their bounds are for reading alone.

A process that reads a capture may take two minutes. On a fresh installation it would have to compile every
kernel first, which can take as long. So a process without these bounds compiles them while the server already
answers; captures wait for it. Where the kernels are in the cache, it ends after a few seconds.
It is not nicer than the server, because people wait for it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

from apptell.web.bounded_process import ProcessLimits, run_bounded

if TYPE_CHECKING:
    from collections.abc import Callable

PREPARE_S: Final = 3600.0
"""Seconds that compiling may take; captures are read after them in any case."""
_MEMORY_BYTES: Final = 8 << 30
_FILE_BYTES: Final = 1 << 30
_END_S: Final = 5.0
_LOOK_S: Final = 0.2


class KernelPreparation:
    """Compiles the kernels in a process; a context manager.

    Args:
        say: called with one line if it fails.
        limits: of the process.
    """

    def __init__(self, say: Callable[[str], None], limits: ProcessLimits | None = None) -> None:
        self._say = say
        self._limits = limits or ProcessLimits(
            PREPARE_S, _MEMORY_BYTES, _FILE_BYTES, niceness=0, is_strict=False
        )
        self._closing, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="kernels", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(_END_S)

    @property
    def is_done(self) -> bool:
        """Whether captures need not wait any more."""
        return self._done.is_set()

    def wait(self, is_over: Callable[[], bool]) -> None:
        """Waits until the kernels are compiled, or until ``is_over``, asked several times a second, is true."""
        while not self._done.wait(_LOOK_S) and not is_over():
            pass

    def _run(self) -> None:
        try:
            ending = run_bounded(
                "apptell.web.prepare_worker", {}, self._limits, is_unwanted=self._closing.is_set
            )
            if ending.kind not in ("answer", "unwanted"):
                late = f"it takes longer than {self._limits.seconds:g} s"
                reason = ending.fault or ending.printed or late
                self._say(f"Kernels are not compiled in advance: {reason}")
        except OSError as error:
            self._say(f"Kernels are not compiled in advance: {error.strerror or error}")
        finally:
            self._done.set()
