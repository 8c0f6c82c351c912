"""Community ID against the published baseline (TCP, UDP and SCTP rows, seeds 0 and 1)."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest

from apptell.flows.community_id import community_id, community_ids

PUBLISHED = [
    (6, "2001:470:e5bf:dead:4957:2174:e82c:4887", 63943, "2607:f8b0:400c:c03::1a", 25)
    + ("1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=", "1:eJYTW6AOzFLlSUoESovMjnu7rMw="),
    (132, "192.168.170.8", 7, "192.168.170.56", 7)
    + ("1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=", "1:5w3ZRjeKBzqT3zsaEECDGjUbYeg="),
    (6, "128.232.110.120", 34855, "66.35.250.204", 80)
    + ("1:LQU9qZlK+B5F3KDmev6m5PMibrg=", "1:3V71V58M3Ksw/yuFALMcW0LAHvc="),
    (17, "192.168.1.52", 54585, "8.8.8.8", 53)
    + ("1:d/FP5EW3wiY1vCndhwleRRKHowQ=", "1:Q9We8WO3piVF8yEQBNJF4uiSVrI="),
]


def packed(address: str) -> list[int]:
    return list(ipaddress.ip_address(address).packed.rjust(16, b"\0"))


def vectorised(rows: list[tuple[int, str, int, str, int]], seed: int = 0) -> list[str]:
    return community_ids(
        np.array([row[0] for row in rows], dtype=np.uint8),
        np.array([packed(row[1]) for row in rows], dtype=np.uint8),
        np.array([packed(row[3]) for row in rows], dtype=np.uint8),
        np.array([":" in row[1] for row in rows]),
        np.array([row[2] for row in rows], dtype=np.uint16),
        np.array([row[4] for row in rows], dtype=np.uint16),
        seed,
    ).to_pylist()


@pytest.mark.parametrize("row", PUBLISHED)
def test_one_flow_has_its_published_id_from_either_side(row):
    protocol, client, client_port, server, server_port, seed_0, seed_1 = row
    assert community_id(protocol, client, client_port, server, server_port) == seed_0
    assert community_id(protocol, server, server_port, client, client_port) == seed_0
    assert community_id(protocol, client, client_port, server, server_port, seed=1) == seed_1


def test_the_kernel_gives_the_published_ids():
    rows = [row[:5] for row in PUBLISHED]
    turned = [(row[0], row[3], row[4], row[1], row[2]) for row in rows]
    assert vectorised(rows) == [row[5] for row in PUBLISHED]
    assert vectorised(turned) == [row[5] for row in PUBLISHED]
    assert vectorised(rows, seed=1) == [row[6] for row in PUBLISHED]


def test_the_kernel_equals_hashlib_on_random_flows():
    random = np.random.default_rng(0)
    rows = []
    for index in range(500):
        ends = [str(ipaddress.IPv4Address(int(random.integers(1 << 32)))) for _ in range(2)]
        if index % 2:
            ends = [str(ipaddress.IPv6Address(random.bytes(16))) for _ in range(2)]
        if index % 7 == 0:
            ends[1] = ends[0]  # the ports decide
        ports = random.integers(0, 65536, 2).tolist()
        rows.append((int(random.choice([6, 17, 132])), ends[0], ports[0], ends[1], ports[1]))
    assert vectorised(rows) == [community_id(*row) for row in rows]


def test_a_few_flows_have_the_same_ids_once_the_kernel_is_loaded():
    rows = [PUBLISHED[at % len(PUBLISHED)][:5] for at in range(300)]
    vectorised(rows)
    some = rows[:20]
    assert vectorised(some) == [community_id(*row) for row in some]


def test_no_flows_give_no_ids():
    nothing = np.zeros((0, 16), dtype=np.uint8)
    ports = np.zeros(0, dtype=np.uint16)
    zero = np.zeros(0, dtype=np.uint8)
    assert community_ids(zero, nothing, nothing, zero.astype(bool), ports, ports).to_pylist() == []


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ValueError, match="does not appear"):
        community_id(6, "no address", 1, "10.0.0.1", 2)
