"""Keys of packets: equal for the two directions of a 5-tuple, and for nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from apptell.packets.packet_keys import flow_rows, is_among, packet_keys

V4 = st.integers(0, 3).map(lambda n: f"10.0.0.{n}") | st.ip_addresses(v=4).map(str)
V6 = st.sampled_from(["::", "::1", "8000::", "8000::8000:0:0:0"]) | st.ip_addresses(v=6).map(str)
PORTS = st.sampled_from([0, 1, 256, 443, 65_535])


@st.composite
def tuples(draw):
    address = draw(st.sampled_from([V4, V6]))
    ends = tuple((draw(address), draw(PORTS)) for _ in range(2))
    return (*ends, draw(st.sampled_from([6, 17])))


def version(flow):
    return 6 if ":" in flow[0][0] else 4


@given(st.lists(tuples(), min_size=1, max_size=20))
def test_keys_are_equal_exactly_where_5_tuples_are(flows):
    keys = packet_keys(flow_rows(flows)).tolist()
    said = [(frozenset(flow[:2]), flow[2], version(flow)) for flow in flows]
    for key, one in zip(keys, said, strict=True):
        assert [key == other for other in keys] == [one == other for other in said]
    back = [(server, client, protocol) for client, server, protocol in flows]
    assert packet_keys(flow_rows(back)).tolist() == keys


@given(st.lists(tuples(), min_size=1, max_size=20))
def test_without_ports_only_addresses_count(flows):
    keys = packet_keys(flow_rows(flows), has_ports=False).tolist()
    said = [(frozenset(end[0] for end in flow[:2]), version(flow)) for flow in flows]
    for key, one in zip(keys, said, strict=True):
        assert [key == other for other in keys] == [one == other for other in said]


@given(st.lists(tuples(), max_size=20), st.lists(tuples(), max_size=20))
def test_keys_are_found_among_sorted_ones(flows, others):
    keys, known = (packet_keys(flow_rows(each)) for each in (flows, others))
    there = set(known.tolist())
    assert is_among(keys, np.sort(known)).tolist() == [key in there for key in keys.tolist()]
