"""The source of ``live`` and ``top``: its options and how it is opened."""

import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from apptell.cli import settings
from apptell.cli.screen import note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apptell.service import PacketSource

Stream = Annotated[
    str | None,
    typer.Argument(
        metavar="[SOURCE]",
        help="A stream: -, pcap+tcp://, pcap+listen://, pcapdroid+udp://, http://.",
    ),
]
Interface = Annotated[
    str | None,
    typer.Option("--interface", "-i", metavar="NAME", help="Network interface, or any for all."),
]
Replay = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Read a capture as if it were live.")
]
Speed = Annotated[
    str,
    typer.Option(
        metavar="FACTOR",
        help="Speed of --replay: 1x, 10x, ... or max. Waits of more than 60 s are skipped.",
    ),
]
DecideAfter = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Decide after this time with the packets seen so far. [default: wait for the deciding payload "
        "packet]",
        min=0.0,
    ),
]
Early = Annotated[
    bool,
    typer.Option(
        "--early",
        help="Decide before the fifth payload packet if the confidence reaches the threshold.",
    ),
]
Snap = Annotated[
    int | None,
    typer.Option(metavar="BYTES", help="Bytes captured of each packet. [default: 2048]"),
]
Expression = Annotated[
    str | None,
    typer.Option(
        "--filter", metavar="BPF", help="Capture filter in tcpdump's syntax; requires libpcap."
    ),
]
Promiscuous = Annotated[
    bool,
    typer.Option(
        "--promiscuous", help="Also capture packets that are not addressed to this machine."
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        metavar="N", help="Threads that share the packets of an interface.", min=1, max=256
    ),
]
User = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Drop to this user once the source is open; for a sensor that is started as root. "
        "[default: no change]",
    ),
]
_RING = ("snap", "expression", "promiscuous", "workers")


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The options of a source; exactly one source is named when it is opened."""

    source: str | None
    interface: str | None
    replay: Path | None
    speed: str
    snap: int | None
    expression: str | None
    promiscuous: bool
    workers: int

    @property
    def name(self) -> str:
        """Its name, for people."""
        return str(self.interface or self.replay or self.source)

    def open(self) -> "Sequence[PacketSource]":
        """Opens it; several sources if workers share an interface.

        Raises:
            UsageError: the speed is invalid.
            CaptureError: it does not exist or is damaged.
            MissingError: it may not be read.
        """
        from apptell.service.sources import (
            InterfaceSource,
            ReplaySource,
            StreamSource,
            parse_speed,
        )

        if self.interface is not None:
            from apptell.capture.live import SNAP_BYTES, open_workers

            captures = open_workers(
                self.interface,
                self.workers,
                snap=SNAP_BYTES if self.snap is None else self.snap,
                expression=self.expression,
                promiscuous=self.promiscuous,
            )
            return [InterfaceSource(capture) for capture in captures]
        if self.replay is not None:
            return [ReplaySource(self.replay, parse_speed(self.speed), note)]
        return [StreamSource(str(self.source))]


END_S: Final = 0.7
"""Seconds after a request to end in which runs of models may end by themselves."""


def request_end(stop: threading.Event) -> None:
    """Asks a pipeline to end, and ends the runs of models that take longer; for the handlers of signals."""
    from apptell.models import end_runs_by

    end_runs_by(time.monotonic() + END_S)
    stop.set()


def choose_source(context: typer.Context, given: SourceOptions) -> SourceOptions:
    """The one source that a verb reads: from the flags, otherwise from the settings.

    Raises:
        UsageError: none or several were named, or an option does not apply to it.
    """
    from apptell.errors import UsageError

    source, interface, replay = settings.one_of(context, "source", "interface", "replay")
    if sum(each is not None for each in (source, interface, replay)) != 1:
        raise UsageError("name one source: -i INTERFACE, a stream, or --replay FILE")
    if interface is None and any(settings.origin(context, name) == "flag" for name in _RING):
        raise UsageError(
            "--snap, --filter, --promiscuous and --workers are for an interface: -i NAME"
        )
    return replace(given, source=source, interface=interface, replay=replay)


def drop_privileges(user: str | None) -> None:
    """Becomes another user, with that user's groups and no way back; does nothing for None.

    Raises:
        UsageError: there is no such user.
        MissingError: the process is not allowed to change its user.
    """
    if user is None:
        return
    import os

    from apptell.errors import MissingError, UsageError

    try:
        import pwd
    except ImportError as error:
        raise MissingError("this system has no users to drop to") from error
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"there is no user {user!r}") from None
    try:
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except PermissionError as error:
        raise MissingError(f"only root can drop to the user {user!r}") from error
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
