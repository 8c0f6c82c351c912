"""What names, DNS answers, addresses and ranges say of flows, and in which order they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from apptell.errors import UsageError
from apptell.testing import START_NS, flow_batch
from apptell.verdicts.evidence import LATE_NS, Evidence, EvidenceOptions
from tests.verdicts.catalogues import SmallCatalogue

if TYPE_CHECKING:
    from apptell.flows.schema import FlowBatch

SECOND = 1_000_000_000
SERVER, OTHER_SERVER = "203.0.113.10", "203.0.113.11"
PHONE, OTHER_PHONE = "192.168.1.2", "192.168.1.3"


def _flows(*rows: dict[str, Any]) -> FlowBatch:
    """Flows that begin at START_NS, or ``at`` seconds later, each with columns of its own."""
    flows = flow_batch([None] * len(rows))
    columns: dict[str, Any] = {}
    for name in ("server_name", "http_host", "dns_name", "client_address", "server_address"):
        usual = {"client_address": PHONE, "server_address": SERVER}.get(name)
        columns[name] = pa.array([row.get(name, usual) for row in rows], pa.string())
    columns["server_port"] = pa.array([row.get("port", 443) for row in rows], pa.uint16())
    starts = [START_NS + int(row.get("at", 0) * SECOND) for row in rows]
    columns["start_ns"] = starts
    columns["decided_ns"] = [start + SECOND for start in starts]
    columns["end_ns"] = [start + 2 * SECOND for start in starts]
    packets = [row.get("payload_packets", 8) for row in rows]
    columns["payload_packets_to_server"] = packets
    columns["payload_packets_to_client"] = [0] * len(rows)
    return flows.with_columns(**columns)


def _answer(
    name: str, *, address: str = SERVER, client: str = PHONE, at: float = -1.0, ttl_s: int = 60
) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "client": [client],
            "address": [address],
            "name": [name],
            "ttl_s": pa.array([ttl_s], pa.uint32()),
            "place": [START_NS + int(at * SECOND)],
        }
    )


def _evidence(kinds: str = "name,dns,address,range", **options: Any) -> Evidence:
    parsed = EvidenceOptions.parse(kinds)
    return Evidence(SmallCatalogue(), EvidenceOptions(parsed.kinds, **options))  # type: ignore[arg-type]


def _said(
    flows: FlowBatch, evidence: Evidence | None = None, *answers: pa.RecordBatch
) -> list[tuple[str | None, str | None, str | None]]:
    """App, service and evidence of each flow."""
    resolver = evidence or _evidence()
    for each in answers:
        resolver.learn(each)
    columns = resolver.resolve(flows).columns()
    wanted = (columns[name].to_pylist() for name in ("app", "service", "evidence"))
    return list(zip(*wanted, strict=True))


def test_a_server_name_or_else_an_http_host_names_the_app() -> None:
    flows = _flows(
        {"server_name": "a.chat.example"},
        {"http_host": "tube.example:8080"},
        {"server_name": "A.CHAT.Example", "http_host": "tube.example"},
        {"server_name": "xn--bcher-kva.example"},
    )
    assert _said(flows) == [
        ("chat", None, "name"),
        ("tube", None, "name"),
        ("chat", None, "name"),
        ("bücher", None, "name"),
    ]


def test_an_app_comes_with_its_name_and_category() -> None:
    columns = _evidence().resolve(_flows({"server_name": "a.tube.example"})).columns()
    assert columns["app_name"].to_pylist() == ["Tube!"]
    assert columns["category"].to_pylist() == ["video"]
    assert columns["outcome"].to_pylist() == ["named"]


def test_a_shared_service_an_unlisted_name_and_no_name_are_told_apart() -> None:
    flows = _flows(
        {"server_name": "x.cdn.example"},
        {"server_name": "www.elsewhere.test", "server_address": OTHER_SERVER},
        {"port": 9999},
        {"port": 53},
    )
    columns = _evidence().resolve(flows).columns()
    assert columns["app"].to_pylist() == [None] * 4
    assert columns["service"].to_pylist() == ["Some CDN", "elsewhere.test", None, "dns"]
    assert columns["service_kind"].to_pylist() == ["cdn", "unlisted", None, "network"]
    assert columns["evidence"].to_pylist() == ["name", "name", None, None]
    assert columns["outcome"].to_pylist() == [
        "shared service",
        "unlisted name",
        "no evidence",
        "shared service",
    ]


def test_a_dns_answer_to_the_client_names_the_app_of_a_flow_without_a_name() -> None:
    flows = _flows({}, {"server_address": OTHER_SERVER}, {"client_address": OTHER_PHONE})
    evidence = _evidence("name,dns,range")
    assert _said(flows, evidence, _answer("a.chat.example")) == [
        ("chat", None, "dns"),
        (None, None, None),
        (None, None, None),
    ]
    assert evidence.resolve(flows).flows.column("dns_name").to_pylist() == [
        "a.chat.example",
        None,
        None,
    ]


def test_the_flow_s_own_name_outweighs_a_dns_answer() -> None:
    flows = _flows({"server_name": "tube.example"}, {"server_name": "x.cdn.example"})
    assert _said(flows, None, _answer("a.chat.example")) == [
        ("tube", None, "name"),
        (None, "Some CDN", "name"),
    ]


def test_an_answer_after_the_flow_began_does_not_count() -> None:
    assert _said(_flows({}), None, _answer("a.chat.example", at=0.5)) == [(None, None, None)]


def test_an_answer_counts_for_the_longer_of_its_ttl_and_the_stated_time() -> None:
    flows = _flows({"at": 99}, {"at": 101}, {"at": 301})
    for ttl_s, apps in ((1, ["chat", None, None]), (300, ["chat", "chat", None])):
        said = _said(
            flows, _evidence("dns", keep_s=100.0), _answer("chat.example", at=0, ttl_s=ttl_s)
        )
        assert [app for app, _, _ in said] == apps


def test_a_ttl_of_many_years_counts_for_a_day() -> None:
    flows = _flows({"at": 86_000}, {"at": 87_000})
    said = _said(flows, _evidence("dns"), _answer("chat.example", at=0, ttl_s=2**31))
    assert [app for app, _, _ in said] == ["chat", None]


def test_an_address_that_was_answered_for_two_apps_decides_nothing() -> None:
    evidence = _evidence()
    answers = (_answer("a.chat.example"), _answer("b.tube.example", at=-2))
    assert _said(_flows({}), evidence, *answers) == [(None, None, None)]
    assert evidence.resolve(_flows({})).columns()["outcome"].to_pylist() == ["shared service"]


def test_an_address_that_was_answered_for_two_names_of_one_app_names_it() -> None:
    answers = (_answer("a.chat.example"), _answer("b.chat.example", at=-2))
    assert _said(_flows({}), None, *answers) == [("chat", None, "dns")]


def test_a_name_that_only_another_client_asked_for_counts_after_what_this_client_did() -> None:
    answer = _answer("a.chat.example", client="2001:db8::2")
    assert _said(_flows({}), None, answer) == [("chat", None, "address")]
    assert _said(_flows({}), _evidence("dns"), answer) == [(None, None, None)]
    reached = _flows({"server_name": "b.tube.example"}, {"at": 10})
    assert _said(reached, None, answer)[1] == ("tube", None, "address")


def test_two_clients_behind_one_server_address_each_have_the_app_they_asked_for() -> None:
    flows = _flows({}, {"client_address": OTHER_PHONE})
    answers = (_answer("a.chat.example"), _answer("b.tube.example", client=OTHER_PHONE))
    assert _said(flows, None, *answers) == [("chat", None, "dns"), ("tube", None, "dns")]


def test_the_public_name_of_encrypted_client_hello_is_no_name_of_an_app() -> None:
    flows = _flows({"server_name": "Cloudflare-ECH.com"})
    assert _said(flows) == [(None, None, None)]
    assert _said(flows, None, _answer("a.chat.example")) == [("chat", None, "dns")]


@pytest.mark.parametrize("literal", ["203.0.113.10", "203.0.113.10:443", "[2001:db8::1]:443"])
def test_an_address_as_a_name_is_no_name(literal: str) -> None:
    assert _said(_flows({"http_host": literal})) == [(None, None, None)]


def test_an_address_reached_before_under_one_app_names_it() -> None:
    flows = _flows(
        {"server_name": "a.chat.example"},
        {"at": 10},
        {"at": 10, "port": 5222},
        {"at": 10, "client_address": OTHER_PHONE},
        {"at": 0.5},  # before the name counts
    )
    assert _said(flows) == [
        ("chat", None, "name"),
        ("chat", None, "address"),
        (None, None, None),
        ("chat", None, "address"),
        (None, None, None),
    ]


def test_an_address_reached_under_two_apps_or_services_decides_nothing() -> None:
    for name in ("b.tube.example", "x.cdn.example", "www.elsewhere.test"):
        flows = _flows({"server_name": "a.chat.example"}, {"server_name": name}, {"at": 10})
        assert _said(flows)[2] == (None, None, None)


def test_what_this_client_reached_counts_before_what_others_did() -> None:
    flows = _flows(
        {"server_name": "a.chat.example"},
        {"server_name": "b.tube.example", "client_address": OTHER_PHONE},
        {"at": 10},
        {"at": 10, "client_address": OTHER_PHONE},
        {"at": 10, "client_address": "192.168.1.4"},
    )
    assert [app for app, _, _ in _said(flows)[2:]] == ["chat", "tube", None]


def test_an_address_ages() -> None:
    flows = _flows({"server_name": "a.chat.example"}, {"at": 50}, {"at": 110})
    said = _said(flows, _evidence(keep_s=100.0))
    assert [app for app, _, _ in said] == ["chat", "chat", None]


def test_a_flow_that_ended_before_its_verdict_was_due_counts_once_it_is_known_to_be_over() -> None:
    late = LATE_NS / SECOND + 3
    short = {"server_name": "a.chat.example", "payload_packets": 3}
    said = _said(_flows(short, {"at": 10}, {"at": late}))
    assert [app for app, _, _ in said] == ["chat", None, "chat"]


def test_names_of_open_flows_count_for_flows_that_end_before_them() -> None:
    evidence = _evidence()
    evidence.observe(_flows({"server_name": "a.chat.example"}), START_NS + SECOND)
    assert _said(_flows({"at": 10}), evidence) == [("chat", None, "address")]


def test_an_app_s_own_range_names_it_unless_the_name_is_listed_as_another_s() -> None:
    owned = "198.51.100.7"
    flows = _flows(
        {"server_address": owned},
        {"server_address": owned, "server_name": "www.elsewhere.test"},
        {"server_address": owned, "server_name": "x.big.example", "port": 80},
        {"server_address": "198.51.100.200"},
    )
    assert _said(flows, _evidence("name,dns,range")) == [
        ("tube", None, "range"),
        ("tube", None, "range"),
        (None, "Big", "name"),
        (None, None, None),
    ]


def test_only_the_kinds_that_were_chosen_are_asked() -> None:
    flows = _flows(
        {"server_name": "a.chat.example"},
        {"at": 10},
        {"server_address": "198.51.100.7"},
    )
    answer = _answer("b.tube.example", address="198.51.100.7")
    for kinds, expected in (
        ("name", ["name", None, None]),
        ("dns", [None, None, "dns"]),
        ("range", [None, None, "range"]),
        ("address", [None, None, None]),
        ("name,address", ["name", "address", None]),
    ):
        assert [kind for _, _, kind in _said(flows, _evidence(kinds), answer)] == expected


def test_the_name_that_a_dataset_keeps_of_dns_counts_where_no_answers_are_known() -> None:
    assert _said(_flows({"dns_name": "a.chat.example"})) == [("chat", None, "dns")]


def test_flows_in_any_order_and_in_any_pieces_get_the_same() -> None:
    rows: list[dict[str, Any]] = [
        {"server_name": "a.chat.example"},
        {"at": 10},
        {"server_name": "b.tube.example", "at": 20},
        {"at": 15},
        {"at": 30},
    ]
    expected = ["chat", "chat", "tube", "chat", None]
    whole = [app for app, _, _ in _said(_flows(*rows))]
    assert whole == expected
    evidence = _evidence()
    for row in reversed(rows):
        evidence.observe(_flows(row), START_NS)
    assert [_said(_flows(row), evidence)[0][0] for row in rows] == expected


def test_names_that_nothing_rests_on_are_forgotten_and_nothing_else() -> None:
    evidence = _evidence(max_keys=8)
    evidence.learn(_answer("a.chat.example"))
    reached = {"server_name": "b.tube.example", "server_address": OTHER_SERVER}
    evidence.resolve(_flows(reached))
    for start in range(0, 3000, 100):
        far = {"server_address": "203.0.113.99", "payload_packets": 0}
        evidence.resolve(
            _flows(*({"server_name": f"n{start + i}.x{i}.test", **far} for i in range(100)))
        )
    assert len(evidence._owners.names) < 1300
    assert len(evidence._owners.identities) < 1300
    flows = _flows({}, {"server_address": OTHER_SERVER, "at": 10})
    assert _said(flows, evidence) == [("chat", None, "dns"), ("tube", None, "address")]
    assert evidence.resolve(flows).flows.column("dns_name").to_pylist() == ["a.chat.example", None]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("name", {"name"}),
        (" Name, DNS ", {"name", "dns"}),
        ("all", {"name", "dns", "address", "range", "model", "context"}),
    ],
)
def test_kinds_of_evidence_are_read_from_words(text: str, kinds: set[str]) -> None:
    assert EvidenceOptions.parse(text).kinds == kinds


@pytest.mark.parametrize("text", ["names", "", "all,name", "name;dns"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no evidence"):
        EvidenceOptions.parse(text)
