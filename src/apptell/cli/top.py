"""``apptell top``: shows apps by bytes, flows and confidence in the terminal."""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli.decider_options import load_deciders
from apptell.cli.filter_options import (
    EvidenceIs,
    MinConfidence,
    NotNamed,
    OfApp,
    OfCategory,
    OfClient,
    OfServer,
    OnlyNamed,
    OutcomeIs,
    selected_records,
)
from apptell.cli.live_source import (
    DecideAfter,
    Expression,
    Interface,
    Promiscuous,
    Replay,
    Snap,
    SourceOptions,
    Speed,
    Stream,
    User,
    Workers,
    choose_source,
    drop_privileges,
    request_end,
)
from apptell.cli.screen import on_terminal
from apptell.cli.shared_options import (
    ActiveTimeout,
    CatalogueFiles,
    EvidenceText,
    EvidenceTransport,
    IdleTimeout,
    Mode,
    ModelFolder,
    Threshold,
    flow_options,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from apptell.service.app_tally import AppTally, Row
    from apptell.service.metrics import Metrics

_EVERY_S = 1.0
_BAR = 12
_SORTS: dict[str, Callable[["Row"], float]] = {
    "bytes": lambda row: row.bytes,
    "rate": lambda row: row.rate,
    "flows": lambda row: row.flows,
    "confidence": lambda row: row.confidence or 0.0,
}


def top(
    context: typer.Context,
    source: Stream = None,
    interface: Interface = None,
    replay: Replay = None,
    speed: Speed = "1x",
    per_client: Annotated[
        bool, typer.Option("--per-client", help="Show apps separately for each client.")
    ] = False,
    sort: Annotated[
        str, typer.Option(metavar="NAME", help="Sort by bytes, rate, flows or confidence.")
    ] = "bytes",
    model: ModelFolder = None,
    evidence: EvidenceText = None,
    catalogue: CatalogueFiles = None,
    threshold: Threshold = None,
    app: OfApp = None,
    category: OfCategory = None,
    client: OfClient = None,
    server: OfServer = None,
    evidence_is: EvidenceIs = None,
    outcome_is: OutcomeIs = None,
    min_confidence: MinConfidence = None,
    only_named: OnlyNamed = False,
    not_named: NotNamed = False,
    mode: Mode = "clean",
    transport: EvidenceTransport = None,
    decide_after: DecideAfter = None,
    idle_timeout: IdleTimeout = 90.0,
    active_timeout: ActiveTimeout = None,
    snap: Snap = None,
    expression: Expression = None,
    promiscuous: Promiscuous = False,
    workers: Workers = 1,
    user: User = None,
) -> None:
    """Shows apps by bytes, flows and confidence, updated every second; q or Ctrl-C ends it.

    Examples:
        apptell top -i wlan0
        apptell top --replay phone.pcap --speed 10x --per-client
    """
    from apptell.errors import UsageError
    from apptell.records.stage import RecordStage
    from apptell.service import LiveOptions, LivePipeline, QueuedOutput
    from apptell.service.app_tally import AppTally
    from apptell.service.metrics import Metrics
    from apptell.service.warm_up import warm_up

    if sort not in _SORTS:
        raise UsageError(f"--sort {sort!r} is none of {', '.join(_SORTS)}")
    given = SourceOptions(source, interface, replay, speed, snap, expression, promiscuous, workers)
    chosen = choose_source(context, given)
    deciders = load_deciders(evidence, model, catalogue, None, transport)
    wanted = selected_records(context.params, deciders)
    options = replace(
        flow_options(
            mode,
            transport=deciders.transports,
            idle_timeout_s=idle_timeout,
            active_timeout_s=active_timeout,
        ),
        lists_decided=True,
    )
    counts, tally, stop = Metrics(), AppTally(), threading.Event()
    with ExitStack() as stack:
        warm_up(options, deciders.model, deciders.evidence)
        opened = chosen.open()
        for each in opened:
            stack.callback(each.close)
        drop_privileges(user)
        output = QueuedOutput("top", tally, is_lossless=all(each.is_lossless for each in opened))
        live_options = LiveOptions(
            options,
            threshold,
            decide_after,
            evidence=deciders.evidence,
            stage=RecordStage(wanted),
        )
        pipeline = LivePipeline(opened, deciders.model, [output], live_options, counts)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: request_end(stop))
        view = View(chosen.name, deciders.name, per_client=per_client, sort=sort)
        if on_terminal():
            _watch(pipeline, tally, counts, view, stop)
        else:
            pipeline.run(stop)
            for row in view.sorted(tally.rows(time.monotonic(), per_client=per_client)):
                sys.stdout.write(json.dumps(asdict(row)) + "\n")


def _watch(
    pipeline: Any, tally: "AppTally", counts: "Metrics", view: "View", stop: threading.Event
) -> None:
    """Draws the view until the source ends, or a key or a signal ends it.

    Raises:
        ApptellError: what ended the pipeline.
    """
    from concurrent.futures import ThreadPoolExecutor

    from rich.live import Live

    from apptell.records.terminal import TerminalConsole

    console = TerminalConsole(sys.stdout)
    begin_s = time.monotonic()
    with ThreadPoolExecutor(1, "top") as pool, _keys(stop) as wait:
        running = pool.submit(pipeline.run, stop)
        try:
            with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
                while True:
                    is_over = running.done()
                    tally.meter(pipeline.open_totals())
                    now_s = time.monotonic()
                    rows = tally.rows(now_s, per_client=view.per_client)
                    drawn = view.draw(rows, counts, now_s - begin_s, console.height, console.width)
                    live.update(drawn, refresh=True)
                    if is_over:
                        break
                    wait(_EVERY_S, running.done)
        finally:
            stop.set()
        running.result()


@contextmanager
def _keys(stop: threading.Event) -> Iterator[Callable[[float, Callable[[], bool]], None]]:
    """The terminal's keys while the block runs: q sets ``stop``.

    Yields:
        A function that waits for a number of seconds, or until a condition holds or q is pressed.
    """
    tick_s = 0.05
    try:
        import select
        import termios
        import tty

        keys = open("/dev/tty", "rb", buffering=0)  # noqa: PTH123, SIM115  stdin may be the capture
        before = termios.tcgetattr(keys)
    except (ImportError, OSError):
        keys = None

    def wait(seconds: float, is_so: Callable[[], bool]) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s and not is_so():
            if keys is None:
                time.sleep(tick_s)
            elif select.select([keys], [], [], tick_s)[0] and keys.read(1) in (b"q", b"Q"):
                stop.set()

    if keys is None:
        yield wait
        return
    try:
        tty.setcbreak(keys.fileno())
        yield wait
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
        keys.close()


_TITLES = ("bytes", "share", "bytes/s", "flows", "open", "packets")
_NARROW_TITLES = ("bytes", "bytes/s", "flows")
"""Columns of numbers, and those of a narrow screen."""
_NARROW = 80
"""Characters of a line below which a screen is narrow."""


@dataclass(frozen=True, slots=True)
class View:
    """How rows are drawn."""

    source: str
    model: str
    per_client: bool = False
    sort: str = "bytes"

    def sorted(self, rows: "Sequence[Row]") -> "list[Row]":
        """The rows with the largest first; each client's together."""
        by = _SORTS[self.sort]
        clients: dict[str | None, float] = {}
        for row in rows:
            clients[row.client] = clients.get(row.client, 0.0) + by(row)
        return sorted(
            rows,
            key=lambda row: (
                -clients[row.client],
                row.client or "",
                -by(row),
                row.app or "",
                row.service or "",
            ),
        )

    def draw(
        self,
        rows: "Sequence[Row]",
        counts: "Metrics",
        seconds: float,
        height: int | None = None,
        width: int | None = None,
    ) -> "RenderableType":
        """The view as something to print.

        Args:
            rows: as ``AppTally.rows`` gives them.
            counts: of the pipeline.
            seconds: since it began.
            height: lines there is room for; None for as many as it takes.
            width: characters of a line; a narrow screen shows fewer columns. None for all.
        """
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
        if self.per_client:
            table.add_column("client", no_wrap=True)
        table.add_column("app or service", no_wrap=True, min_width=14)
        is_narrow = width is not None and width < _NARROW
        shown = _NARROW_TITLES if is_narrow else _TITLES
        for title in shown:
            table.add_column(title, justify="right", no_wrap=True)
        if not is_narrow:
            table.add_column("confidence", no_wrap=True)
        total = sum(row.bytes for row in rows)
        found = self.sorted(rows)
        room = len(found) if height is None else max(height - 5, 1)
        last = None
        for row in found[:room]:
            numbers = (
                _size(row.bytes),
                f"{row.bytes / total:.0%}" if total else "",
                _size(row.rate),
                f"{row.flows:,}",
                f"{row.open_flows:,}",
                f"{row.packets:,}",
            )
            by_title = dict(zip(_TITLES, numbers, strict=True))
            cells = [
                row.app_name or row.app or row.service or "-",
                *(by_title[title] for title in shown),
            ]
            if not is_narrow:
                cells.append(_bar(row.confidence))
            if self.per_client:
                cells.insert(0, "" if row.client == last else str(row.client))
                last = row.client
            table.add_row(*cells, style=None if row.app else "dim")
        left_out = len(found) - room
        minutes, rest = divmod(int(seconds), 60)
        return Group(
            Text(f"{self.source}  {self.model}  {minutes}:{rest:02}", style="bold", end="\n"),
            Text(
                f"{counts.packets:,} packets  {_size(counts.bytes)}  {counts.active:,} open flows  "
                f"{sum(counts.verdicts.values()):,} verdicts  {counts.overloaded:,} overloaded  "
                f"{counts.kernel_drops:,} dropped by the kernel"
            ),
            Text(""),
            table,
            Text(f"{left_out} more" if left_out > 0 else "", style="dim"),
        )


def _size(n: float) -> str:
    """A number of bytes in three digits or so."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 999.5:
            return f"{n:.0f} {unit}" if unit == "B" or n >= 99.5 else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def _bar(share: float | None) -> str:
    if share is None:
        return "-"
    full = round(share * _BAR)
    return f"{share:.2f} {'█' * full}{'░' * (_BAR - full)}"
