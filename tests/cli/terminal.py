"""A terminal as a person has one."""

import fcntl
import os
import pty
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def open_terminal() -> Iterator[tuple[str, bytearray]]:
    """The path of a terminal 200 columns wide, and what it has shown when the block has ended."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    shown = bytearray()
    reader = threading.Thread(target=_read, args=(ours, shown))
    reader.start()
    try:
        yield os.ttyname(theirs), shown
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)


def _read(ours: int, shown: bytearray) -> None:
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # EIO: nobody has the terminal open any more
        pass
