"""``apptell serve``: pages and a JSON API about the records of a folder."""

import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli import settings
from apptell.cli.decider_options import load_deciders
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
)
from apptell.cli.screen import note
from apptell.cli.shared_options import (
    ActiveTimeout,
    CatalogueFiles,
    EvidenceText,
    EvidenceTransport,
    IdleTimeout,
    Mode,
    ModelFolder,
    Threshold,
    UnknownRate,
    flow_options,
    unknown_rate,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from socket import socket

    from apptell.history.record_history import RecordHistory
    from apptell.history.upkeep import Retention
    from apptell.web.capture_jobs import CaptureSettings
    from apptell.web.live_link import LiveLink
    from apptell.web.serving import WebServer
    from apptell.web.worker_process import CaptureLimits


def serve(
    context: typer.Context,
    source: Stream = None,
    interface: Interface = None,
    replay: Replay = None,
    speed: Speed = "1x",
    live: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Unix socket to listen on for a running live, which writes to it: --out jsonl:unix:PATH.",
        ),
    ] = None,
    live_metrics: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Address of --metrics of that live, for drops, delays and drift. [default: not shown]",
        ),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Records to show, as live --out parquet:FOLDER writes them; a source adds its own.",
        ),
    ] = None,
    reports: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder with reports that evaluate, compare, discover and others wrote.",
        ),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Registry of models to show, as apptell models keeps it; changes need --token-file.",
        ),
    ] = None,
    upload_size: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="Largest capture that can be dropped on the page Try it; 0 leaves the page out.",
        ),
    ] = "256MB",
    upload_time: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Time to identify a dropped capture.", min=1.0),
    ] = 120.0,
    captures: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Captures of the flows in the records, for the reasons and packets of a flow. [default: none]",
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(metavar="[HOST:]PORT", help="Where to listen; default host: loopback."),
    ] = "8090",
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the token that pages ask for; required unless only this machine can connect.",
        ),
    ] = None,
    host_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name under which browsers reach this server; repeatable. [default: only addresses]",
        ),
    ] = None,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact", help="Merge small files of the records, and keep sums of large ones."
        ),
    ] = False,
    keep_days: Annotated[
        float | None,
        typer.Option(
            metavar="N", help="Delete records of more than N days ago. [default: never]", min=0.01
        ),
    ] = None,
    keep_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Delete the oldest records beyond this size, as in 50GB. [default: never]",
        ),
    ] = None,
    model: ModelFolder = None,
    evidence: EvidenceText = None,
    catalogue: CatalogueFiles = None,
    threshold: Threshold = None,
    unknown: UnknownRate = None,
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
    """Serves pages in the browser: what happens now, the history of records, every flow, and a JSON API.

    Examples:
        apptell serve
        apptell serve -i wlan0 --records records/
        apptell serve --records records/ --listen 0.0.0.0:8090 --token-file token
    """
    from apptell.errors import UsageError, needs_extra
    from apptell.files import make_folder
    from apptell.history.upkeep import Retention, parse_size
    from apptell.service import LiveOptions
    from apptell.service.metrics import parse_address
    from apptell.service.warm_up import warm_up

    address = parse_address(listen)
    given = SourceOptions(source, interface, replay, speed, snap, expression, promiscuous, workers)
    has_source = any(settings.one_of(context, "source", "interface", "replay"))
    chosen = choose_source(context, given) if has_source else None
    most_bytes = 0 if upload_size == "0" else parse_size(upload_size)
    if not most_bytes and all(each is None for each in (chosen, live, records, reports, models)):
        raise UsageError(
            "nothing to show: name a source, --records FOLDER, --reports FOLDER or --models DIR"
        )
    if live is not None and chosen is not None:
        raise UsageError("--live: a running live is the source; name no other")
    if live is None and live_metrics is not None:
        raise UsageError("--live-metrics: only with --live")
    counters = None if live_metrics is None else parse_address(live_metrics)
    rate = unknown_rate(unknown)
    with needs_extra("serve", "apptell serve"):
        from apptell.web.access_token import allowed_hosts, read_token
        from apptell.web.guard import Sessions
        from apptell.web.now_feed import open_feed
        from apptell.web.report_shelf import ReportShelf
        from apptell.web.serving import listen as listen_at
        from apptell.web.site import Site
        from apptell.web.update_desk import UpdateDesk
        from apptell.web.worker_process import CaptureLimits

    token = read_token(token_file, address[0])
    retention = Retention(keep_days, None if keep_size is None else parse_size(keep_size))
    with ExitStack() as stack:
        site = Site(Sessions(token))
        listening = listen_at(address)
        stack.callback(listening.close)
        if chosen is not None:
            deciders = load_deciders(evidence, model, catalogue, None, transport, rate)
            flows = replace(
                flow_options(
                    mode,
                    transport=deciders.transports,
                    idle_timeout_s=idle_timeout,
                    active_timeout_s=active_timeout,
                ),
                lists_decided=True,
            )
            pipeline = LiveOptions(
                flows, threshold, decide_after, evidence=deciders.evidence, unknown=rate
            )
            warm_up(flows, deciders.model, deciders.evidence)
            opened = chosen.open()
            for each in opened:
                stack.callback(each.close)
            drop_privileges(user)
            name = chosen.name if chosen.replay is None else chosen.replay.name
            feed = open_feed(name, opened, deciders.model, pipeline, records, note)
            site.feed = stack.enter_context(feed)
        if live is not None:
            site.feed = _link(stack, live, counters)
            if records is not None:
                make_folder(records)  # live makes it too, and either may start first
        if reports is not None:
            site.shelf = ReportShelf(reports)
        if models is not None:
            site.models = _registry(models)
            site.updates = stack.enter_context(UpdateDesk(note))
        if records is not None:
            site.history = _history(stack, records, retention, merges=compact)
        settings_of = _capture_settings(context.params, rate, checks=chosen is None)
        limits = CaptureLimits(upload_time)
        _read_captures(stack, site, settings_of, limits, most_bytes, captures)
        _answer(site, listening, allowed_hosts(address[0], host_name or ()), address[0])


def _answer(site: Any, listening: "socket", hosts: "Collection[str]", host: str) -> None:
    """Answers requests until SIGTERM or Ctrl-C.

    Raises:
        KeyboardInterrupt: it was Ctrl-C.
    """
    from apptell.web.application import build_application
    from apptell.web.guard import is_loopback
    from apptell.web.serving import WebServer

    at, port = listening.getsockname()[:2]
    shown = f"[{at}]" if ":" in at else at
    app = build_application(site, hosts, takes_numbers=not is_loopback(host))
    server = WebServer(app, lambda: note(f"Open http://{shown}:{port}/"))
    interrupted = _end_on_signals(server, site)
    server.serve_socket(listening)
    if interrupted:
        raise KeyboardInterrupt


def _history(
    stack: ExitStack, records: Path, retention: "Retention", *, merges: bool
) -> "RecordHistory":
    """The history in a folder, and what keeps the folder small."""
    from apptell.history.record_history import RecordHistory
    from apptell.history.upkeep import Retention, Upkeep

    found = RecordHistory(records)
    stack.callback(found.close)
    if merges or retention != Retention():
        stack.enter_context(Upkeep(found, retention, merges=merges, say=note))
    return found


def _capture_settings(
    typed: dict[str, Any], rate: float | None, *, checks: bool
) -> "CaptureSettings":
    """How the flows of captures are identified by the options.

    Raises:
        ApptellError: the model or the catalogue cannot be loaded; only if ``checks`` is true.
    """
    from apptell.flows.options import transport_numbers
    from apptell.web.capture_jobs import CaptureSettings

    model, transport = typed["model"], typed["transport"]
    identified = CaptureSettings(
        typed["evidence"],
        None if model is None else str(model.absolute()),
        tuple(str(Path(file).absolute()) for file in typed["catalogue"] or ()),
        typed["threshold"],
        rate,
        None if transport is None else transport_numbers(transport),
        typed["mode"],
        typed["idle_timeout"],
        typed["active_timeout"],
    )
    if checks and identified != CaptureSettings():
        identified.deciders()
    return identified


def _read_captures(
    stack: ExitStack,
    site: Any,
    identified: "CaptureSettings",
    limits: "CaptureLimits",
    most_bytes: int,
    folder: Path | None,
) -> None:
    """Takes captures of at most some bytes from pages, and reads those of a folder."""
    from apptell.web.capture_folder import CaptureFolder
    from apptell.web.kernel_preparation import KernelPreparation
    from apptell.web.upload_desk import UploadDesk

    if not most_bytes and folder is None:
        return
    preparation = stack.enter_context(KernelPreparation(note))
    if most_bytes:
        desk = UploadDesk(identified, limits, most_bytes, say=note, preparation=preparation)
        site.desk = stack.enter_context(desk)
    if folder is not None:
        site.kept = CaptureFolder(folder, identified, limits, note, preparation)


def _link(stack: ExitStack, path: Path, address: tuple[str, int] | None) -> "LiveLink":
    """The connection to a running ``live``.

    Raises:
        OutputError: another program listens on the socket, or it cannot be made.
    """
    from apptell.errors import needs_extra

    with needs_extra("serve", "apptell serve"):
        from apptell.web.live_link import LiveLink
        from apptell.web.live_metrics import LiveMetrics

    metrics = None if address is None else stack.enter_context(LiveMetrics(address))
    return stack.enter_context(LiveLink(path, metrics))


def _registry(folder: Path) -> Path:
    """The folder of a registry.

    Raises:
        ModelError: there is no such folder.
        UsageError: it is the folder of one model.
    """
    from apptell.errors import UsageError
    from apptell.models.model_shelf import CURRENT, shelves

    if (folder / "model.json").exists() or (folder / CURRENT).exists():
        raise UsageError(f"{folder}: is one model; a registry is the folder that holds models")
    shelves(folder)
    return folder.resolve()


def _end_on_signals(server: "WebServer", site: Any) -> list[int]:
    """Ends the server on SIGTERM and Ctrl-C; returns a list that Ctrl-C adds to."""
    interrupted: list[int] = []

    def end(number: int, _: Any) -> None:
        if number == signal.SIGINT:
            interrupted.append(number)
        site.stopping.set()
        server.should_exit = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    return interrupted
