"""What the process of ``capture_worker`` does with a capture: identify its flows, or look at one of them."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from apptell.encoding.image import images
from apptell.errors import CaptureError, ModelError
from apptell.flows import FlowOptions
from apptell.models.model_folder import ROWS_FILE
from apptell.names import read_flows
from apptell.reasons import KeptFlows, explained_batches
from apptell.records.explanations import METHODS, places, rounded, similar_words
from apptell.records.extraction import Extraction
from apptell.records.forms import form_of_name
from apptell.records.schema import LIVE_RECORD
from apptell.records.writers import open_writer
from apptell.reports.explained import flow_values
from apptell.reports.png import paint, png
from apptell.service.decisions import ended_records
from apptell.verdicts import choose_deciders, flows_and_verdicts, whole_context
from apptell.web.capture_folder import SLACK_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from apptell.capture import PacketBatch
    from apptell.flows.schema import FlowBatch
    from apptell.models import Model
    from apptell.verdicts import Deciders

RECORDS: Final = "apptell-capture.parquet"
"""Name of the file of records in its folder."""
MOST_PARTS: Final = 40
"""Parts of a model's reason that are given."""
_GROUPS: Final = ("core", "segments", "names")
_PCAP_HEADER_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """How flows of captures are identified, in values that JSON can hold."""

    evidence: str | None = None
    model: str | None = None
    catalogue: tuple[str, ...] = ()
    threshold: float | None = None
    unknown: float | None = None
    transports: tuple[int, ...] | None = None
    mode: str = "clean"
    idle_timeout_s: float = 90.0
    active_timeout_s: float | None = None

    def deciders(self) -> Deciders:
        """Evidence and model.

        Raises:
            ApptellError: they cannot be loaded, or do not fit together.
        """
        return choose_deciders(
            self.evidence, self.model, self.catalogue, transports=self.transports
        )

    def flow_options(self, deciders: Deciders) -> FlowOptions:
        """How packets become flows."""
        more: dict[str, Any] = {"mode": self.mode}
        if deciders.model is not None:
            more["decision_packets"] = deciders.model.decision_packets
        return FlowOptions(
            transports=deciders.transports,
            groups=_GROUPS,
            idle_timeout_s=self.idle_timeout_s,
            active_timeout_s=self.active_timeout_s,
            **more,
        )


def identify_capture(
    capture: Path, folder: Path, settings: CaptureSettings, report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Identifies the flows of a capture, and writes their records as ``live`` does.

    Args:
        capture: the file.
        folder: gets the file of records.
        settings: how flows are identified.
        report: called with the packets, the flows and the share that was read, after each batch of packets.

    Returns:
        Packets, flows, and where the capture is damaged.

    Raises:
        CaptureError: it is no capture, or is damaged before its first packet.
        OutputError: the records cannot be written.
    """
    size = max(capture.stat().st_size, 1)
    counts = {"packets": 0, "flows": 0}
    n_bytes = 0

    def count(packets: PacketBatch) -> PacketBatch:
        nonlocal n_bytes
        counts["packets"] += len(packets)
        n_bytes += int(packets.captured.sum()) + _PCAP_HEADER_BYTES * len(packets)
        is_packed = any("," in name for name in reader.stats.capture.formats)
        report({**counts, "share": None if is_packed else min(n_bytes / size, 1.0)})
        return packets

    deciders = settings.deciders()
    around = None
    if deciders.context is not None and deciders.model is not None:
        around = whole_context(deciders.context, deciders.model)
    reader = read_flows(
        capture, settings.flow_options(deciders), annotate=count, observer=deciders.evidence
    )
    damage = None
    try:
        with reader, open_writer(folder / RECORDS, form_of_name("parquet"), LIVE_RECORD) as writer:
            for flows, verdicts in flows_and_verdicts(
                reader,
                deciders.model,
                settings.threshold,
                context=around,
                evidence=deciders.evidence,
                unknown=settings.unknown,
            ):
                counts["flows"] += len(verdicts)
                for batch in ended_records(flows, verdicts):
                    writer.write(batch)
    except CaptureError as error:
        if not counts["packets"]:
            raise
        damage = str(error)
    return {**counts, "damage": damage}


def look_at_flow(
    captures: list[str], record: Mapping[str, Any], settings: CaptureSettings
) -> dict[str, Any]:
    """Reads a flow once more, and says why its verdict says what it says.

    Args:
        captures: files that hold the flow's packets, and what came before them.
        record: of the flow; Community ID, ``start_ns`` and more.
        settings: how flows are identified.

    Returns:
        Plain values: the explanation, signed lengths of the first packets, the paper's picture, the bytes of
        the first packets with their fields, and the most similar flows of the model's training set.

    Raises:
        CaptureError: the captures do not have the flow.
        ModelError: the model fails.
    """
    deciders = settings.deciders()
    kept: list[FlowBatch] = []

    def is_it(start_ns: int) -> bool:
        return abs(start_ns - int(record["start_ns"])) <= SLACK_NS

    def noted(batches: Iterable[FlowBatch]) -> Iterator[FlowBatch]:
        for batch in batches:
            mine = batch.filter(batch.numpy("community_id") == record["community_id"])
            for row, start_ns in enumerate(mine.numpy("start_ns").tolist()):
                if is_it(start_ns):
                    kept.append(mine.take([row]))
            yield batch

    options = settings.flow_options(deciders)
    with read_flows(captures, options, observer=deciders.evidence) as reader:
        found = explained_batches(
            noted(reader),
            deciders,
            settings.threshold,
            flow=record["community_id"],
            unknown=settings.unknown,
        )
        try:
            each = next(
                each for _, batch in found for each in batch if is_it(each.verdict.start_ns)
            )
        except StopIteration:
            raise CaptureError("the capture does not have this flow any more") from None
    flow = kept[0]
    shown = flow_values(each)
    values = each.to_dict(MOST_PARTS)
    reason = shown["reason"]
    if each.model is not None:
        values["model"]["method_words"] = METHODS[each.model.method]
        for part, of in zip(
            values["model"]["contributions"], each.model.strongest(MOST_PARTS), strict=True
        ):
            part["where"] = places(of.spans)
    return {
        "explanation": rounded(values),
        "lengths": flow.sequences().length.tolist(),
        "picture": _data_url(png(paint(images(flow)[0]))),
        "saliency": None if reason is None else reason["saliency"],
        "segments": shown["segments"],
        "similar": None if deciders.model is None else similar_flows(deciders.model, flow),
    }


def similar_flows(model: Model, flow: FlowBatch) -> dict[str, Any] | None:
    """The most similar flows of a model's training set, or why there are none; None where the model keeps none.

    Args:
        model: whose folder may have kept rows.
        flow: one flow with the groups *core*, *segments* and *names*.
    """
    try:
        kept = KeptFlows.of(model)
        found = None if kept is None else kept.like(flow)
    except ModelError as error:  # the flow has its reasons nevertheless
        reason = str(error).rpartition(f"{ROWS_FILE}: ")[2]  # without the place on this machine
    except MemoryError:
        reason = "they need more memory than the server allows"
    else:
        return None if found is None else {**found.to_dict(), "words": similar_words(found)}
    return {"words": f"The kept flows of the training set cannot be read: {reason}", "nearest": []}


def extract_flow(captures: list[str], record: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """Writes the packets of a flow as pcapng, with its verdict as a comment.

    Raises:
        CaptureError: the captures do not have the flow.
        OutputError: the file cannot be written.
    """
    extraction = Extraction()
    start_ns, end_ns = record["start_ns"] - SLACK_NS, record["end_ns"] + SLACK_NS
    extraction.add_rows([{**record, "start_ns": start_ns, "end_ns": end_ns}])
    extraction.write(captures, output, FlowOptions().tunnels)
    if not extraction.packets:
        raise CaptureError("the capture does not have this flow any more")
    return {"packets": extraction.packets}


def _data_url(picture: bytes) -> str:
    return f"data:image/png;base64,{b64encode(picture).decode()}"
