"""``apptell live``: an interface or a stream and a model in, verdicts while the flows are young out."""

import signal
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli.live_source import (
    DecideAfter,
    Early,
    Expression,
    Interface,
    Promiscuous,
    Replay,
    Snap,
    SourceOptions,
    Speed,
    Stream,
    Workers,
    choose_source,
)
from apptell.cli.notes import note_known_apps
from apptell.cli.options import ContextText, Mode, ModelFolder, Threshold, Transport, flow_options
from apptell.cli.outputs import Out, note_losses, refuse_losses
from apptell.cli.screen import note

if TYPE_CHECKING:
    from apptell.models import Model
    from apptell.service import LivePipeline, QueuedOutput
    from apptell.service.metrics import Metrics


def live(
    context: typer.Context,
    source: Stream = None,
    interface: Interface = None,
    replay: Replay = None,
    speed: Speed = "1x",
    model: ModelFolder = None,
    threshold: Threshold = None,
    mode: Mode = "clean",
    transport: Transport = "tcp",
    decide_after: DecideAfter = None,
    around: ContextText = None,
    early: Early = False,
    out: Out = None,
    snap: Snap = None,
    expression: Expression = None,
    promiscuous: Promiscuous = False,
    workers: Workers = 1,
    on_verdict: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND|URL", help="Run or call for each named flow, with its record as JSON."
        ),
    ] = None,
    on_app: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Of --on-verdict: only these apps, by commas."),
    ] = None,
    on_rate: Annotated[
        float,
        typer.Option(metavar="N", help="Of --on-verdict: calls a second at most.", min=0.01),
    ] = 10.0,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Serve /metrics, /healthz and /readyz, on loopback unless given.",
        ),
    ] = None,
) -> None:
    """Names the app of each flow at its fifth payload packet, and says its totals when it ends.

    Examples:
        apptell live -i wlan0 --out eve:eve.json --metrics 9109
        tcpdump -i any -w - | apptell live - --out jsonl:-
    """
    from apptell.errors import UsageError
    from apptell.models import load_model
    from apptell.service import LiveOptions, LivePipeline, open_outputs
    from apptell.service.metrics import Metrics, MetricsServer, parse_address
    from apptell.service.warm_up import settle, warm_up
    from apptell.verdicts import ContextOptions

    given = SourceOptions(source, interface, replay, speed, snap, expression, promiscuous, workers)
    chosen = choose_source(context, given)
    options = replace(
        flow_options(mode, transport=transport), lists_decided=True, lists_early=early
    )
    address = None if metrics is None else parse_address(metrics)
    window = None if around is None else ContextOptions.parse(around)
    if window is not None and window.both_sides:
        raise UsageError(f"--context {around}: later flows are not known yet: {window.window_s:g}s")
    used = load_model(model)
    note_known_apps(used, embedded=model is None)
    counts = Metrics()
    stop = threading.Event()
    with ExitStack() as stack:
        if address is not None:
            server = stack.enter_context(MetricsServer(address, counts))
            note(f"Metrics: http://{address[0]}:{server.port}/metrics")
        warm_up(options, used)
        opened = chosen.open()
        for each in opened:
            stack.callback(each.close)
        lossless = all(each.is_lossless for each in opened)
        outputs = open_outputs(out or ["jsonl:-"], is_lossless=lossless)
        if on_verdict is not None:
            outputs.append(_open_on_verdict(on_verdict, on_app, on_rate, used))
        live_options = LiveOptions(options, threshold, decide_after, window)
        pipeline = LivePipeline(opened, used, outputs, live_options, counts)
        settle()
        interrupted = _listen(stop, pipeline, model)
        try:
            pipeline.run(stop)
        finally:
            _say_counts(counts)
            note_losses(outputs)
    refuse_losses(outputs)
    if interrupted.is_set():
        raise KeyboardInterrupt


def _open_on_verdict(what: str, names: str | None, rate: float, model: "Model") -> "QueuedOutput":
    """What is called with verdicts.

    Raises:
        UsageError: it is neither a command nor a URL, or the model knows no such app.
    """
    from apptell.errors import UsageError
    from apptell.service.on_verdict import open_on_verdict

    apps = [] if names is None else [name.strip() for name in names.split(",")]
    for app in apps:
        if app not in model.apps:
            raise UsageError(f"--on-app: the model knows no {app!r}: {', '.join(model.apps)}")
    return open_on_verdict(what, apps, rate)


def _listen(
    stop: threading.Event, pipeline: "LivePipeline", folder: Path | None
) -> threading.Event:
    """SIGTERM and Ctrl-C end, SIGHUP loads the model again; says whether it was Ctrl-C."""
    interrupted = threading.Event()

    def end(number: int, _: Any) -> None:
        if number == signal.SIGINT:
            interrupted.set()
        stop.set()

    def reload() -> None:
        from apptell.errors import ApptellError
        from apptell.models import load_model

        try:
            model = load_model(folder)
        except ApptellError as error:
            note(f"The model stays as it is: {error}")
            return
        pipeline.replace_model(model)
        note(f"The model is now {model.name}@{model.hash}")

    def hang_up(*_: Any) -> None:
        # loading takes a while: not in the thread that reads packets
        threading.Thread(target=reload, name="reload", daemon=True).start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, hang_up)
    return interrupted


def _say_counts(counts: "Metrics") -> None:
    named = sum(n for (_, outcome), n in counts.verdicts.items() if outcome == "named")
    total = sum(counts.verdicts.values())
    note(
        f"{counts.packets:,} packets, {counts.kernel_drops:,} dropped by the kernel; "
        f"{total:,} verdicts: {named:,} named, {total - named - counts.overloaded:,} declined, "
        f"{counts.overloaded:,} overloaded."
    )
    if counts.unreported:
        note(
            f"{counts.unreported:,} flows were open at the end and were not reported: there was no time left."
        )
