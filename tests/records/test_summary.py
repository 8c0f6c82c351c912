import numpy as np
import pyarrow as pa

from apptell.records.summary import SUMMARY_RECORD, FlowCounts, Summary, traffic_kinds
from apptell.testing import flow_batch
from apptell.verdicts import VerdictBatch, decide


def _verdicts(clients: list[str], confidences: list[float], n_bytes: list[int]) -> VerdictBatch:
    n = len(clients)
    flows = flow_batch(["zoom"] * n).with_columns(
        client_address=clients,
        packets_to_server=[1] * n,
        packets_to_client=[2] * n,
        bytes_to_server=n_bytes,
        bytes_to_client=[0] * n,
    )
    table = np.array([[c, 1 - c] for c in confidences], np.float32)
    return decide(flows, table, ["signal", "zoom"], 0.8, "m@1")


def test_bytes_are_summed_per_app_and_then_per_client_most_first() -> None:
    summary = Summary()
    summary.add(_verdicts(["10.0.0.1", "10.0.0.2"], [0.9, 0.1], [100, 700]))
    summary.add(_verdicts(["10.0.0.1", "10.0.0.1"], [0.9, 0.5], [50, 7]))
    names = ("client", "app", "flows", "packets", "bytes")
    rows = [tuple(row[name] for name in names) for row in summary.records().to_pylist()]
    assert rows == [
        (None, "zoom", 1, 3, 700),
        (None, "signal", 2, 6, 150),
        (None, None, 1, 3, 7),
        ("10.0.0.2", "zoom", 1, 3, 700),
        ("10.0.0.1", "signal", 2, 6, 150),
        ("10.0.0.1", None, 1, 3, 7),
    ]


def test_nothing_seen_is_an_empty_summary() -> None:
    records = Summary().records()
    assert records.num_rows == 0
    assert records.schema == SUMMARY_RECORD


def _batch(rows: list[tuple[str | None, str | None, str | None]]) -> pa.RecordBatch:
    """App, category and kind of service of some flows."""
    apps, categories, kinds = zip(*rows, strict=True)
    services = [kind and f"a {kind} service" for kind in kinds]
    names = ("app", "category", "service", "service_kind")
    columns = (apps, categories, services, kinds)
    return pa.record_batch([pa.array(c, pa.string()) for c in columns], names)


def test_apps_services_background_and_unknown_are_told_apart() -> None:
    batch = _batch(
        [
            ("signal", "messaging", None),
            ("zoom", None, "cdn"),  # by a model
            ("other", None, None),
            ("updates", "system", None),
            (None, None, "ads"),
            (None, None, "sdk"),
            (None, None, "network"),
            (None, None, "platform"),
            (None, None, "unlisted"),
            (None, None, None),
        ]
    )
    kinds = traffic_kinds(batch).to_pylist()
    assert kinds == ["app"] * 2 + ["background"] * 5 + ["service"] * 2 + ["unknown"]
    counts = FlowCounts()
    counts.add(batch)
    assert counts.total == 10
    counts.add(batch)
    assert str(counts) == "4 app flows of 2 apps, 4 of services, 10 background, 2 not named"
    for _ in range(1_000):  # are counted a few hundred at a time
        counts.add(batch)
    assert counts.kinds == {"app": 2_004, "background": 5_010, "service": 2_004, "unknown": 1_002}


def test_counts_of_nothing_are_said_too() -> None:
    assert str(FlowCounts()) == "0 app flows, 0 of services, 0 background, 0 not named"
