"""``apptell live``: identifies the apps of flows while they are open, from an interface or a stream."""

import signal
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apptell.cli.decider_options import load_deciders
from apptell.cli.extract_options import (
    Extract,
    ExtractFiles,
    ExtractFlow,
    ExtractRing,
    ExtractSize,
    extraction_options,
    note_extraction,
    open_extraction,
    refuse_unwritten,
)
from apptell.cli.filter_options import (
    AllFlows,
    ClientFile,
    ClientNamesFrom,
    EvidenceIs,
    Local,
    MinConfidence,
    NotNamed,
    OfApp,
    OfCategory,
    OfClient,
    OfServer,
    OnlyNamed,
    OutcomeIs,
    Sensor,
    record_stage,
)
from apptell.cli.live_source import (
    END_S,
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
    User,
    Workers,
    choose_source,
    drop_privileges,
    request_end,
)
from apptell.cli.notes import note_snap_length
from apptell.cli.outputs import Out, note_losses, refuse_losses
from apptell.cli.screen import note
from apptell.cli.shared_options import (
    VERDICT_GROUPS,
    ActiveTimeout,
    CatalogueFiles,
    ContextText,
    EvidenceText,
    EvidenceTransport,
    IdleTimeout,
    Mode,
    ModelFolder,
    RawCsv,
    Threshold,
    UnknownRate,
    flow_options,
    unknown_rate,
)
from apptell.cli.verb import ends_at_once

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from apptell.models import Model
    from apptell.service import LivePipeline, QueuedOutput
    from apptell.service.live_extraction import LiveExtraction
    from apptell.service.metrics import Metrics
    from apptell.service.model_follower import ModelFollower


def live(
    context: typer.Context,
    source: Stream = None,
    interface: Interface = None,
    replay: Replay = None,
    speed: Speed = "1x",
    model: ModelFolder = None,
    model_registry: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR/NAME",
            help="Use the version of a model that is promoted there (apptell models), and follow it.",
        ),
    ] = None,
    evidence: EvidenceText = None,
    catalogue: CatalogueFiles = None,
    threshold: Threshold = None,
    unknown: UnknownRate = None,
    mode: Mode = "clean",
    transport: EvidenceTransport = None,
    decide_after: DecideAfter = None,
    idle_timeout: IdleTimeout = 90.0,
    active_timeout: ActiveTimeout = None,
    around: ContextText = None,
    early: Early = False,
    out: Out = None,
    all_flows: AllFlows = False,
    extract: Extract = None,
    extract_ring: ExtractRing = "64MB",
    extract_flow: ExtractFlow = "10MB",
    extract_size: ExtractSize = "100MB",
    extract_files: ExtractFiles = 10,
    app: OfApp = None,
    category: OfCategory = None,
    client: OfClient = None,
    server: OfServer = None,
    evidence_is: EvidenceIs = None,
    outcome_is: OutcomeIs = None,
    min_confidence: MinConfidence = None,
    only_named: OnlyNamed = False,
    not_named: NotNamed = False,
    local: Local = None,
    clients: ClientFile = None,
    client_names: ClientNamesFrom = "on",
    sensor: Sensor = None,
    raw_csv: RawCsv = False,
    snap: Snap = None,
    expression: Expression = None,
    promiscuous: Promiscuous = False,
    workers: Workers = 1,
    user: User = None,
    on_verdict: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND|URL",
            help="For each named flow, run a command or POST to a URL, with the record as JSON.",
        ),
    ] = None,
    on_app: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Call --on-verdict only for these apps, separated by commas. [default: all]",
        ),
    ] = None,
    on_rate: Annotated[
        float,
        typer.Option(
            metavar="N", help="Maximum number of --on-verdict calls per second.", min=0.01
        ),
    ] = 10.0,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Serve /metrics, /healthz and /readyz; default host: loopback. [default: no metrics]",
        ),
    ] = None,
) -> None:
    """Identifies the app of each flow at its fifth payload packet, and reports its totals at its end.

    Examples:
        apptell live -i wlan0 --out eve:eve.json --metrics 9109
        tcpdump -i any -w - | apptell live - --out jsonl:-
    """
    from apptell.errors import UsageError
    from apptell.service import LiveOptions, LivePipeline, open_outputs
    from apptell.service.drift_watch import DriftWatch
    from apptell.service.metrics import Metrics, MetricsServer, parse_address
    from apptell.service.warm_up import settle, warm_up

    given = SourceOptions(source, interface, replay, speed, snap, expression, promiscuous, workers)
    chosen = choose_source(context, given)
    address = None if metrics is None else parse_address(metrics)
    rate = unknown_rate(unknown)
    version = None
    if model_registry is not None:
        model, version = _promoted(model_registry, model)
    deciders = load_deciders(evidence, model, catalogue, around, transport, rate)
    stage = record_stage(context.params, deciders)
    extracted = extraction_options(context)
    if deciders.context is not None and deciders.context.both_sides:
        raise UsageError(f"--context {around}: later flows are not known yet: leave out both")
    options = replace(
        flow_options(
            mode,
            VERDICT_GROUPS + (("link",) if all_flows else ()),
            transport=deciders.transports,
            idle_timeout_s=idle_timeout,
            active_timeout_s=active_timeout,
            local=local,
        ),
        lists_decided=True,
        lists_early=early,
    )
    counts = Metrics()
    counts.drift = DriftWatch(note)
    stop = threading.Event()
    reloads: list[threading.Thread] = []
    with ExitStack() as stack:
        stack.enter_context(ends_at_once(lambda: _is_loading(reloads)))
        if address is not None:
            served = stack.enter_context(MetricsServer(address, counts))
            note(f"Metrics: http://{address[0]}:{served.port}/metrics")
        note_snap_length(deciders.model, snap)
        warm_up(options, deciders.model, deciders.evidence)
        opened = chosen.open()
        for each in opened:
            stack.callback(each.close)
        drop_privileges(user)
        lossless = all(each.is_lossless for each in opened)
        outputs = open_outputs(out or ["jsonl:-"], is_lossless=lossless, raw_csv=raw_csv)
        if on_verdict is not None:
            outputs.append(_open_on_verdict(on_verdict, on_app, on_rate, deciders.apps))
        extraction = open_extraction(extracted, options, is_replay=chosen.replay is not None)
        live_options = LiveOptions(
            options,
            threshold,
            decide_after,
            deciders.context,
            deciders.evidence,
            rate,
            all_flows,
            stage,
            extraction,
        )
        pipeline = LivePipeline(opened, deciders.model, outputs, live_options, counts)
        settle()
        interrupted = _listen(stop, pipeline, model, deciders.model, reloads)
        if model_registry is not None and version is not None:
            follower = stack.enter_context(_follower(model_registry, version, pipeline))
            reloads.append(follower.thread)
        # its packets count from here on, and no kernel has to be compiled
        if chosen.interface is not None:
            note(f"listening on {chosen.interface}")
        counts.drift.start()
        stack.callback(counts.drift.close)
        try:
            pipeline.run(stop)
        finally:
            _report(counts, outputs, extraction)
        refuse_losses(outputs)
        refuse_unwritten(extraction)
        if interrupted.is_set():
            raise KeyboardInterrupt


def _promoted(registry: Path, model: Path | None) -> tuple[Path, str]:
    """The folder of the version that is in use, and its name.

    Raises:
        UsageError: a model is given as well, or no version was promoted.
    """
    from apptell.errors import UsageError
    from apptell.models.model_shelf import ModelShelf

    if model is not None:
        raise UsageError("--model and --model-registry: give one of them")
    shelf = ModelShelf(registry)
    version = shelf.current
    if version is None:
        raise UsageError(
            f"{registry}: no version was promoted: apptell models promote {registry} VERSION"
        )
    return shelf.path(version), version


def _follower(registry: Path, version: str, pipeline: "LivePipeline") -> "ModelFollower":
    """Follows the version of a registry that is in use."""
    from apptell.models.model_shelf import ModelShelf
    from apptell.service.model_follower import ModelFollower

    return ModelFollower(ModelShelf(registry), version, pipeline, note)


def _open_on_verdict(
    what: str, names: str | None, rate: float, known: "Collection[str]"
) -> "QueuedOutput":
    """Opens the command or URL that is called with verdicts.

    Raises:
        UsageError: it is neither a command nor a URL, or no verdict can name such an app.
    """
    from apptell.records.record_filter import check_known
    from apptell.service.on_verdict import open_on_verdict

    apps = [] if names is None else [name.strip() for name in names.split(",")]
    check_known(apps, known, "--on-app: no verdict can name")
    return open_on_verdict(what, apps, rate)


def _is_loading(reloads: list[threading.Thread]) -> bool:
    """Whether a model is still being loaded, after some time to end."""
    for reload in reloads:
        reload.join(END_S)
    return any(reload.is_alive() for reload in reloads)


def _listen(
    stop: threading.Event,
    pipeline: "LivePipeline",
    folder: Path | None,
    used: "Model | None",
    reloads: list[threading.Thread],
) -> threading.Event:
    """Handles SIGTERM and Ctrl-C (end) and SIGHUP (reload the model); returns the event that Ctrl-C sets.

    The threads that reload are added to ``reloads``.
    """
    interrupted = threading.Event()

    def end(number: int, _: Any) -> None:
        if number == signal.SIGINT:
            interrupted.set()
        request_end(stop)

    def reload() -> None:
        from apptell.errors import ApptellError
        from apptell.models import load_model

        if used is None:
            note("No model is in use, so there is nothing to reload.")
            return
        try:
            model = load_model(folder)
            pipeline.replace_model(model)
        except ApptellError as error:
            if not stop.is_set():
                note(f"The model was not reloaded: {error}")
            return
        note(f"The model is now {model.name}@{model.hash}")

    def hang_up(*_: Any) -> None:
        # loading takes a while: not in the thread that reads packets
        reloads[:] = [thread for thread in reloads if thread.is_alive()]
        reloads.append(threading.Thread(target=reload, name="reload", daemon=True))
        reloads[-1].start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, hang_up)
    return interrupted


def _report(
    counts: "Metrics", outputs: "Sequence[QueuedOutput]", extraction: "LiveExtraction | None"
) -> None:
    """Says at the end what was read, decided, lost and extracted."""
    _say_counts(counts)
    note_losses(outputs)
    note_extraction(extraction)


def _say_counts(counts: "Metrics") -> None:
    """Counts as ``identify`` does: each flow that ended once, by its last verdict."""
    late = f"; {counts.overloaded:,} were overloaded" if counts.overloaded else ""
    note(
        f"{counts.packets:,} packets, {counts.kernel_drops:,} dropped by the kernel; "
        f"{counts.kinds.total:,} flows: {counts.kinds}{late}."
    )
    if counts.unreported:
        note(
            f"{counts.unreported:,} flows were open at the end and were not reported: there was no time left."
        )
