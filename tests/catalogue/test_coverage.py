import pyarrow as pa

from apptell.catalogue import Catalogue
from apptell.catalogue.coverage import COVERAGE_SCHEMA, Coverage
from apptell.flows import FlowBatch


def _flows(rows: list[tuple[str | None, str | None, str, int]]) -> FlowBatch:
    names, hosts, clients, sizes = zip(*rows, strict=True)
    return FlowBatch.from_columns(
        {
            "server_name": pa.array(names, pa.string()),
            "http_host": pa.array(hosts, pa.string()),
            "client_address": pa.array(clients),
            "bytes_to_server": pa.array(sizes, pa.int64()),
            "bytes_to_client": pa.array(sizes, pa.int64()),
        }
    )


def test_domains_without_a_row_come_with_flows_bytes_and_clients() -> None:
    tally = Coverage(Catalogue.load())
    tally.add(
        _flows(
            [
                ("api.unknown.example", None, "10.0.0.1", 50),
                ("API.unknown.example.", None, "10.0.0.2", 50),
                (None, "www.unknown.example:8080", "10.0.0.1", 1),
                ("other.example", None, "10.0.0.1", 500),
                ("g.whatsapp.net", None, "10.0.0.1", 5),
                ("graph.facebook.com", None, "10.0.0.1", 5),
                (None, None, "10.0.0.1", 5),
                ("192.0.2.1", None, "10.0.0.1", 5),
            ]
        )
    )
    tally.add(_flows([("other.example", None, "10.0.0.1", 500)]))
    found = tally.missing()
    assert found.schema == COVERAGE_SCHEMA
    assert found.to_pylist() == [
        {
            "domain": "unknown.example",
            "flows": 3,
            "bytes": 202,
            "clients": 2,
            "names": 2,
            "example": "api.unknown.example",
        },
        {
            "domain": "other.example",
            "flows": 2,
            "bytes": 2000,
            "clients": 1,
            "names": 1,
            "example": "other.example",
        },
    ]
    assert tally.flows == {"missing": 5, "app": 1, "sdk": 1, "unnamed": 2}
    assert tally.apps == {"whatsapp"}


def test_no_flows_give_no_domains() -> None:
    assert Coverage(Catalogue.load()).missing().num_rows == 0
