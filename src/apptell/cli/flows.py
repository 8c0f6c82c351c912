"""``apptell flows``: assembles packets into flows and writes them as records."""

from typing import TYPE_CHECKING, Annotated

import typer

from apptell.cli.filter_options import Local, OfClient, OfServer
from apptell.cli.notes import note_evicted, refuse_no_flows
from apptell.cli.outputs import refuse_capture
from apptell.cli.screen import note, on_terminal, until_interrupted
from apptell.cli.shared_options import (
    ActiveTimeout,
    Captures,
    Follow,
    Form,
    IdleTimeout,
    Jobs,
    MaxFlows,
    Mode,
    OutputFile,
    RawCsv,
    TableZone,
    Transport,
    columns_in_zone,
    flow_options,
)

if TYPE_CHECKING:
    from apptell.flows import FlowStats


def flows(
    captures: Captures,
    columns: Annotated[
        str,
        typer.Option(
            metavar="GROUPS",
            help="Column groups, separated by commas: core, segments (payload bytes), names, labels, audit, "
            "link (MAC addresses, VLANs, tunnel, TCP flags, conn_state).",
        ),
    ] = "core,names",
    client: OfClient = None,
    server: OfServer = None,
    local: Local = None,
    form: Form = None,
    output: OutputFile = None,
    raw_csv: RawCsv = False,
    zone: TableZone = None,
    mode: Mode = "clean",
    follow: Follow = False,
    transport: Transport = "tcp",
    jobs: Jobs = 1,
    max_flows: MaxFlows = None,
    idle_timeout: IdleTimeout = 90.0,
    active_timeout: ActiveTimeout = None,
) -> None:
    """Assembles packets into bidirectional flows.

    Examples:
        apptell flows phone.pcap
        apptell flows captures/ -o flows.parquet --columns core,segments
    """
    import pyarrow as pa

    from apptell.names import read_flows
    from apptell.records.record_filter import parse_filter
    from apptell.records.schema import flow_record_schema, flow_records, named_like_verdicts
    from apptell.records.text_table import FLOW_COLUMNS
    from apptell.records.writers import choose_form, open_writer

    wanted = parse_filter(clients=client or (), servers=server or ())
    groups = tuple(name.strip() for name in columns.split(",") if name.strip())
    options = flow_options(
        mode,
        groups,
        transport,
        max_flows=max_flows,
        idle_timeout_s=idle_timeout,
        active_timeout_s=active_timeout,
        local=local,
    )
    chosen = choose_form(form, output, terminal=on_terminal(), raw_csv=raw_csv)
    refuse_capture("--output", output, captures)
    if chosen.has_own_fields:
        groups = tuple(dict.fromkeys(("core", *groups)))
    order = "time" if "core" in groups and not follow else None
    empty = pa.RecordBatch.from_pylist([], schema=flow_record_schema(groups))
    schema = named_like_verdicts(empty).schema
    shown = columns_in_zone(FLOW_COLUMNS, zone)
    selected = 0
    with (
        until_interrupted(follow=follow) as stop,
        read_flows(captures, options, follow=follow, jobs=jobs, stop=stop) as reader,
        open_writer(output, chosen, schema, shown, order_by=order) as writer,
    ):
        try:
            for batch in reader:
                if not wanted.is_empty:
                    batch = batch.filter(wanted.keep(batch.to_arrow()))
                    selected += len(batch)
                writer.write(named_like_verdicts(flow_records(batch, groups)))
        finally:
            stats = reader.stats
            note(_where_packets_went(stats, transport))
            if not wanted.is_empty:
                note(f"The filters select {selected:,} of these flows.")
            note_evicted(stats)
    refuse_no_flows(stats)


def _where_packets_went(stats: "FlowStats", transport: str) -> str:
    """How many packets became flows, and why the others did not."""
    words = f"{stats.flows:,} flows of {stats.in_flows:,} packets"
    others = stats.packets - stats.in_flows - stats.not_asked
    if stats.not_asked:
        other = "TCP" if "udp" in transport.lower() else "UDP"
        words += f"; {stats.not_asked:,} other packets are {other} (--transport tcp,udp reads both)"
    if others:
        words += (
            f"; of the {stats.packets:,} packets, {others:,} are not part of a flow "
            "(apptell inspect shows why)"
        )
    return words + "."
