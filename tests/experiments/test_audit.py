"""Leaks are planted in packets (group leaks in the labels' groups) and read back as flows."""

import struct
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from apptell.dataset import split
from apptell.errors import DatasetError
from apptell.experiments.audit import audit_split
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.names import read_flows
from apptell.testing import ACK, PSH, START_NS, SYN, client_hello, tcp_frame, write_pcap

APPS = ("signal", "teams", "zoom")
N = 240
TCP_CHECKSUM_AT = 14 + 20 + 16
DAY_NS = 86_400 * 10**9


@dataclass(frozen=True)
class Talk:
    """One connection; everything that could tell the app but its messages' lengths is random."""

    app: int
    client: str
    server: str
    port: int
    name: str
    sequence: int
    start_ns: int
    ttl: int
    hello_seed: int
    data: tuple[tuple[bool, bytes], ...]
    checksum: int | None = None
    groups: dict[str, str] = field(default_factory=dict)


def clean(seed=0):
    """Flows of three apps that no field gives away."""
    random = np.random.default_rng(seed)
    talks = []
    for i in range(N):
        app = int(random.integers(3))
        lengths = random.integers(80, 900, 4)
        data = tuple((j % 2 == 0, random.bytes(int(n))) for j, n in enumerate(lengths))
        talks.append(
            Talk(
                app,
                f"10.0.{random.integers(4)}.{random.integers(1, 9)}",
                f"203.0.113.{random.integers(1, 9)}",
                int(random.integers(20_000, 60_000)),
                f"host{random.integers(5)}.example",
                int(random.integers(2**31)),
                START_NS + i * 60 * 10**9 + int(random.integers(10**9)),
                int(random.choice([64, 128])),
                i,
                data,
                groups={
                    "session": f"t{random.integers(6)}",
                    "day": f"2024-01-0{random.integers(1, 6)}",
                    "device": f"phone{random.integers(4)}",
                },
            )
        )
    return talks


def packets(talk):
    client, server = (talk.client, talk.port), (talk.server, 443)
    ours, theirs = talk.sequence, 7000
    hello = client_hello(talk.name, seed=talk.hello_seed)
    frames = [
        tcp_frame(client, server, sequence=ours, flags=SYN, ttl=talk.ttl),
        tcp_frame(server, client, sequence=theirs, acknowledgement=ours + 1, flags=SYN | ACK),
    ]
    if talk.checksum is not None:
        first = frames[0]
        wrong = struct.pack(">H", talk.checksum)
        frames[0] = first[:TCP_CHECKSUM_AT] + wrong + first[TCP_CHECKSUM_AT + 2 :]
    ours, theirs = ours + 1, theirs + 1
    for to_server, said in ((True, hello), *talk.data):
        a, b, at, acked = (
            (client, server, ours, theirs) if to_server else (server, client, theirs, ours)
        )
        frames.append(
            tcp_frame(a, b, said, sequence=at, acknowledgement=acked, flags=PSH | ACK, ttl=talk.ttl)
        )
        if to_server:
            ours += len(said)
        else:
            theirs += len(said)
    return [(talk.start_ns + i * 5_000_000, frame) for i, frame in enumerate(frames)]


def read(talks, tmp_path, in_order=None):
    """Packets through a capture file and the flow table; labels and groups by client port and time."""
    everything = sorted(packet for talk in talks for packet in packets(talk))
    path = write_pcap(tmp_path / "phone.pcap", everything)
    with read_flows(path, FlowOptions(groups=tuple(GROUPS))) as reader:
        flows = reader.to_flows()
    by_key = {(talk.start_ns, talk.port): talk for talk in talks}
    keys = zip(flows.numpy("start_ns").tolist(), flows.numpy("client_port").tolist(), strict=True)
    owner = [by_key[key] for key in keys]
    apps = [APPS[talk.app] for talk in owner]
    flows = flows.with_columns(label=apps, groups=[list(talk.groups.items()) for talk in owner])
    order = np.argsort(
        [talks.index(talk) for talk in owner] if in_order is None else in_order(apps)
    )
    return flows.take(order), [apps[row] for row in order]


def looked(talks, tmp_path, **how):
    flows, apps = read(talks, tmp_path, **how)
    assert len(flows) == len(talks)
    return audit_split(flows, apps, split(flows, "paper"))


def each(change):
    """Clean talks, each changed by its own random numbers."""
    random = np.random.default_rng(9)
    return [replace(talk, **change(talk, random)) for talk in clean()]


def in_group(name):
    return each(lambda t, r: {"groups": {**t.groups, name: f"{t.app}-{r.integers(2)}"}})


def by_day(talk, random):
    start = START_NS + (3 * int(random.integers(4)) + talk.app) * DAY_NS
    groups = {name: value for name, value in talk.groups.items() if name != "day"}
    return {"start_ns": start + int(random.integers(36_000 * 10**9)), "groups": groups}


def at_hour(talk, random):
    """Each app has its hour on every one of four days."""
    day, second = int(random.integers(4)), int(random.integers(3600))
    fraction = int(random.integers(10**9))
    return {"start_ns": START_NS + day * DAY_NS + (talk.app * 3 * 3600 + second) * 10**9 + fraction}


def repeated():
    """Half of the flows are sent again, from another port at another time."""
    talks = clean()
    random = np.random.default_rng(5)
    again = [
        replace(
            t,
            port=int(random.integers(20_000, 60_000)),
            sequence=int(random.integers(2**31)),
            start_ns=t.start_ns + 10**13 + i,
        )
        for i, t in enumerate(talks[: N // 2])
    ]
    return talks + again


PLANTED = {
    "address": lambda: each(lambda t, r: {"server": f"198.51.{t.app}.{r.integers(1, 9)}"}),
    "port": lambda: each(lambda t, r: {"port": int(20_000 + t.app * 5000 + r.integers(5000))}),
    "server name": lambda: each(lambda t, r: {"name": f"{APPS[t.app]}.example"}),
    "sequence number": lambda: each(
        lambda t, r: {"sequence": int(t.app * 10**9 + r.integers(10**8))}
    ),
    "timestamp": lambda: each(at_hour),
    "checksum": lambda: each(lambda t, r: {"checksum": 0x1111 * (t.app + 1)}),
    "TTL": lambda: each(lambda t, r: {"ttl": (57, 64, 128)[t.app]}),
    "duplicate flow": repeated,
    "session": lambda: in_group("session"),
    "day": lambda: each(by_day),
    "device": lambda: in_group("device"),
}


@pytest.mark.parametrize("field", PLANTED)
def test_a_planted_leak_is_caught(field, tmp_path):
    found = looked(PLANTED[field](), tmp_path)
    assert field in [finding.field for finding in found.leaks]
    assert not found.is_clean
    leak = next(finding for finding in found.leaks if finding.field == field)
    assert leak.gain > 0.2
    assert leak.advice
    # days are times too: these two tell of each other, all others of themselves alone
    allowed = {field, "timestamp"} if field == "day" else {field}
    assert {finding.field for finding in found.leaks} <= allowed


def test_an_order_of_labels_is_caught(tmp_path):
    found = looked(clean(), tmp_path, in_order=lambda apps: [APPS.index(app) for app in apps])
    assert [finding.field for finding in found.leaks] == ["label order"]


@pytest.mark.parametrize("seed", range(3))
def test_clean_data_stays_silent(seed, tmp_path):
    found = looked(clean(seed), tmp_path)
    assert found.is_clean, found.leaks
    assert found.exact_duplicates == found.near_duplicates == 0.0
    assert not found.permuted_leaks


def test_leaks_come_in_order_of_harm_and_duplicates_are_counted(tmp_path):
    talks = repeated()
    talks = [replace(talk, ttl=(57, 64, 128)[talk.app]) for talk in talks]
    found = looked(talks, tmp_path)
    assert [finding.field for finding in found.leaks] == ["TTL", "duplicate flow"]
    assert found.leaks[0].accuracy == 1.0
    assert 0.3 < found.exact_duplicates <= found.near_duplicates


def test_a_split_that_leaves_sessions_out_has_no_leak_of_sessions(tmp_path):
    flows, apps = read(in_group("session"), tmp_path)
    found = audit_split(flows, apps, split(flows, "session"))
    assert "session" not in [finding.field for finding in found.leaks]
    assert next(f for f in found.findings if f.field == "session").shared == 0.0


def test_the_limit_is_the_callers(tmp_path):
    flows, apps = read(PLANTED["TTL"](), tmp_path)
    assert audit_split(flows, apps, split(flows, "paper"), limit=0.9).is_clean


def test_one_app_alone_cannot_be_audited(tmp_path):
    flows, _ = read(clean()[:20], tmp_path)
    with pytest.raises(DatasetError, match="two apps"):
        audit_split(flows, ["a"] * 20, split(flows, "paper"))
