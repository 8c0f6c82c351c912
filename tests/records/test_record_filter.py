import ipaddress
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from apptell.errors import UsageError
from apptell.records.record_filter import RecordFilter, parse_filter
from apptell.records.schema import verdict_records
from apptell.testing import flow_batch
from apptell.verdicts import VerdictBatch, decide

CLIENTS = ["10.0.0.1", "10.0.1.1", "2001:db8::1", "10.0.0.2"]


@pytest.fixture(scope="module")
def verdicts() -> VerdictBatch:
    """Four flows: signal, signal, none at a confidence of 0.7, zoom."""
    flows = flow_batch(["zoom"] * 4).with_columns(client_address=CLIENTS)
    table = np.array([[0.9, 0.1], [0.85, 0.15], [0.7, 0.3], [0.05, 0.95]], np.float32)
    return decide(flows, table, ["signal", "zoom"], 0.8, "m@1")


def _clients(verdicts: VerdictBatch, wanted: RecordFilter) -> list[int]:
    kept = wanted(verdicts.to_arrow()).column("client_address").to_pylist()
    assert wanted(verdict_records(verdicts)).column("client_address").to_pylist() == kept
    return [CLIENTS.index(client) for client in kept]


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        (parse_filter(), [0, 1, 2, 3]),
        (parse_filter(apps=["signal"]), [0, 1]),
        (parse_filter(apps=["Signal, zoom"]), [0, 1, 3]),
        (parse_filter(clients=["10.0.0.0/24"]), [0, 3]),
        (parse_filter(clients=["10.0.0.1", "2001:db8::/32"]), [0, 2]),
        (parse_filter(clients=["10.0.0.9/24"]), [0, 3]),
        (parse_filter(servers=["192.0.2.0/24"]), []),
        (parse_filter(min_confidence=0.85), [0, 1, 3]),
        (parse_filter(min_confidence=0.9), [0, 3]),
        (parse_filter(only_named=True), [0, 1, 3]),
        (parse_filter(not_named=True), [2]),
        (parse_filter(evidence=["model"], only_named=True), [0, 1, 3]),
        (parse_filter(evidence=["name,dns"]), []),
        (parse_filter(outcomes=["below-threshold"]), [2]),
        (parse_filter(outcomes=["Named, unknown", "below threshold"]), [0, 1, 2, 3]),
        (parse_filter(apps=["signal"], clients=["10.0.1.0/24"]), [1]),
    ],
)
def test_every_condition_has_to_be_met(
    verdicts: VerdictBatch, wanted: RecordFilter, rows: list[int]
) -> None:
    assert _clients(verdicts, wanted) == rows


def test_a_verdict_by_a_name_has_no_confidence_and_stays() -> None:
    batch = pa.record_batch({"confidence": pa.array([None, 0.2], pa.float32())})
    assert parse_filter(min_confidence=0.9).keep(batch).tolist() == [True, False]


def test_a_category_is_of_the_app_or_of_a_service_that_names_no_app() -> None:
    batch = pa.record_batch(
        {
            "app": ["signal", None, "zoom", None],
            "category": ["messaging", None, None, None],
            "service_kind": [None, "ads", "ads", None],
        }
    )
    assert parse_filter(categories=["ads"]).keep(batch).tolist() == [False, True, False, False]
    assert parse_filter(categories=["messaging"]).keep(batch).tolist() == [True] + [False] * 3


def test_networks_agree_with_the_standard_library() -> None:
    generator = np.random.default_rng(1)
    numbers = generator.integers(0, 2**32, 200)
    addresses = [str(ipaddress.ip_address(int(number))) for number in numbers]
    batch = pa.record_batch({"server_address": addresses})
    network = ipaddress.ip_network("128.0.0.0/2")
    expected = [ipaddress.ip_address(address) in network for address in addresses]
    assert parse_filter(servers=["128.0.0.0/2"]).keep(batch).tolist() == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parse_filter(clients=["home"]), "--client: 'home' is not an address or a network"),
        (lambda: parse_filter(servers=["10.0.0.0/33"]), "--server: '10.0.0.0/33'"),
        (lambda: parse_filter(evidence=["guess"]), "no evidence 'guess'"),
        (lambda: parse_filter(outcomes=["declined"]), "no outcome 'declined'; available: named"),
        (lambda: parse_filter(outcomes=["unknown"], apps=["signal"]), "select nothing"),
        (lambda: parse_filter(outcomes=["named"], not_named=True), "select nothing"),
        (lambda: parse_filter(apps=["signl"], known_apps=["signal"]), "available: signal"),
        (lambda: parse_filter(min_confidence=2), "confidence 2 is not between 0 and 1"),
        (lambda: parse_filter(only_named=True, not_named=True), "select nothing"),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(
    make: Callable[[], RecordFilter], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make()
