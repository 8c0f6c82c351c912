"""Hand-made captures and the embedded sample, labelled by names: labels, evidence, what is left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import apptell
from apptell import Dataset, FlowOptions, UsageError
from apptell.flows.schema import GROUPS
from tests.verdicts.test_evidence_packets import PHONE, ROWS, SERVERS, TABLET, Capture, _hello

if TYPE_CHECKING:
    from collections.abc import Iterator

BOTH = FlowOptions(transports=(6, 17), groups=tuple(GROUPS))
SAMPLE = Path(apptell.__file__).parent / "samples" / "named"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


def _labels(data: Dataset) -> Iterator[tuple[str, str]]:
    flows = data.read()
    yield from zip(
        flows.column("label").to_pylist(), flows.column("label_source").to_pylist(), strict=True
    )


def _phone(path: Path) -> Path:
    capture = Capture()
    capture.connection(1, SERVERS[0], _hello(b"www.chat.example"))
    capture.answer(2, "tube.example", SERVERS[1])
    capture.connection(3, SERVERS[1])
    capture.connection(4, SERVERS[0])
    capture.connection(5, SERVERS[2], _hello(b"unlisted.example"))
    capture.connection(6, SERVERS[3])
    return capture.write(path)


def test_flows_are_labelled_by_name_dns_and_address_and_say_by_which(
    tmp_path: Path, rows: Path
) -> None:
    capture = _phone(tmp_path / "phone.pcap")
    data = Dataset.build(capture, tmp_path / "d", labels="names", catalogue=[rows])
    assert sorted(_labels(data)) == [("chat", "address"), ("chat", "name"), ("tube", "dns")]
    (source,) = data.info["sources"]
    assert source["labels"] == "names"
    assert source["label_sources"] == {"name": 1, "dns": 1, "address": 1}
    assert source["dropped"] == {"no evidence": 1, "unlisted name": 1}
    assert set(data.read().column("label_from").to_pylist()) == {"names"}


def test_two_clients_behind_one_address_have_the_label_of_what_each_asked_for(
    tmp_path: Path, rows: Path
) -> None:
    capture = Capture()
    capture.answer(1, "chat.example", SERVERS[0], to=PHONE)
    capture.answer(1, "tube.example", SERVERS[0], to=TABLET)
    capture.connection(2, SERVERS[0], by=PHONE)
    capture.connection(2, SERVERS[0], by=TABLET)
    path = capture.write(tmp_path / "two.pcap")
    data = Dataset.build(path, tmp_path / "d", labels="names", catalogue=[rows])
    flows = data.read()
    clients = flows.column("client_address").to_pylist()
    assert dict(zip(clients, flows.column("label").to_pylist(), strict=True)) == {
        PHONE: "chat",
        TABLET: "tube",
    }


def test_the_sample_is_labelled_as_it_is_identified(tmp_path: Path) -> None:
    data = Dataset.build(SAMPLE, tmp_path / "d", labels="names", flows=BOTH, views="none")
    expected = Counter(
        (verdict.app or "other", verdict.evidence)
        for verdict in apptell.identify(SAMPLE / "named.pcap.xz")
        if (verdict.app or verdict.service_kind in ("platform", "cdn", "sdk", "ads"))
    )
    assert Counter(_labels(data)) == expected
    assert Counter(_labels(data))["other", "name"] == 6


def test_names_label_nothing_unless_they_are_asked_for(tmp_path: Path) -> None:
    data = Dataset.build(_phone(tmp_path / "phone.pcap"), tmp_path / "d")
    assert data.info["label_from"] == {"folders": 5}


def test_a_catalogue_is_refused_where_labels_do_not_come_from_names(
    tmp_path: Path, rows: Path
) -> None:
    with pytest.raises(UsageError, match="only by labels of the kind 'names'"):
        Dataset.build(tmp_path, tmp_path / "d", catalogue=[rows])


def test_a_named_connection_is_kept_from_later_packets_too_and_marked_as_part_of_it(
    tmp_path: Path, rows: Path
) -> None:
    capture = Capture()
    capture.connection(1, SERVERS[0], _hello(b"chat.example"), n=30)
    capture.connection(2, SERVERS[1], n=30)
    path = capture.write(tmp_path / "long.pcap")
    data = Dataset.build(path, tmp_path / "d", labels="names", catalogue=[rows])
    flow, *views = data.read()
    assert (flow.part_of, flow.server_name, flow.payload_packets_to_server) == (
        None,
        "chat.example",
        15,
    )
    assert [len(view.segment_bytes[0]) for view in views] == [50 + 6, 50 + 18]
    for view in views:
        assert view.part_of == view.connection_id == flow.connection_id
        assert (view.label, view.label_source) == ("chat", "name")
        assert len(view.segment_bytes) == 12
    assert data.info["late_views"] == 2
    assert "2 of them are late views" in (data.path / "README.md").read_text()
    without = Dataset.build(path, tmp_path / "e", labels="names", catalogue=[rows], views="none")
    assert [flow.part_of for flow in without.read()] == [None]


def test_a_later_part_that_is_a_flow_of_its_own_is_no_view(tmp_path: Path, rows: Path) -> None:
    capture = Capture()
    capture.connection(1, SERVERS[0], _hello(b"chat.example"), n=6)
    last_ns, last = capture.packets[-4]
    first_ns = last_ns + 100 * 10**9
    capture.packets += [(first_ns + i, last) for i in range(8)]
    path = capture.write(tmp_path / "silent.pcap")
    data = Dataset.build(path, tmp_path / "d", labels="names", catalogue=[rows])
    assert data.info["late_views"] == 0


def test_a_block_of_addresses_that_one_app_was_reached_in_labels_flows_of_other_captures(
    tmp_path: Path, rows: Path
) -> None:
    one, two = Capture(), Capture()
    one.connection(1, "20.1.2.3", _hello(b"chat.example"))
    one.connection(2, "20.1.3.3", _hello(b"chat.example"))
    one.connection(3, "20.1.3.4", _hello(b"unlisted.example"))
    one.connection(4, "10.1.2.3", _hello(b"tube.example"))
    two.connection(1, "20.1.2.99")  # the block of one app
    two.connection(2, "20.1.3.99")  # a block with an unlisted name too
    two.connection(3, "20.1.4.99")  # a block without a name
    two.connection(4, "10.1.2.99")  # a block of a private network
    (tmp_path / "c").mkdir()
    captures = [one.write(tmp_path / "c" / "one.pcap"), two.write(tmp_path / "c" / "two.pcap")]
    for number, named in enumerate((tmp_path / "c", captures)):
        place = tmp_path / f"d{number}"
        data = Dataset.build(named, place, labels="names", catalogue=[rows], jobs=1 + number)
        flows = data.read()
        found = dict(zip(flows.column("server_address").to_pylist(), _labels(data), strict=True))
        assert found == {
            "20.1.2.3": ("chat", "name"),
            "20.1.3.3": ("chat", "name"),
            "10.1.2.3": ("tube", "name"),
            "20.1.2.99": ("chat", "block"),
        }
    alone = Dataset.build(captures[1:], tmp_path / "alone", labels="names", catalogue=[rows])
    assert len(alone) == 0
