import numpy as np

from apptell.records.summary import SUMMARY_RECORD, Summary
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
    rows = [tuple(row.values()) for row in summary.records().to_pylist()]
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
