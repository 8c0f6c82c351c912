from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.flows.schema import FlowBatch
from apptell.labels.join import AMBIGUOUS, DEFAULT_TOLERANCE_S, NONE, LogIndex, Offset
from apptell.labels.log import Lines

S = 1_000_000_000
START = 1_700_000_000 * S


def flow_table(rows):
    """rows: (protocol, client, port, server, port, start_s, end_s)"""
    names = ("protocol", "client_address", "client_port", "server_address", "server_port")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    columns["start_ns"] = [START + round(row[5] * S) for row in rows]
    columns["end_ns"] = [START + round(row[6] * S) for row in rows]
    return FlowBatch.from_columns(columns)


def log(rows, **kind):
    """rows: (time_s, protocol, source, port, target, port, app)"""
    lines = Lines()
    for time, protocol, source, sport, target, tport, app in rows:
        ns = START + round(time * S)
        lines.add(ns, ns, protocol, (source, sport), (target, tport), app)
    return LogIndex(lines.table(**kind))


A, B = ("10.0.0.2", 40000), ("192.0.2.1", 443)


def names(index, flows, offset=0):
    found, _ = index.label(flows, Offset(offset, 0, 0), DEFAULT_TOLERANCE_S, 60.0)
    return [index.log.apps[i] if i >= 0 else {NONE: None, AMBIGUOUS: "?"}[i] for i in found]


def test_a_line_fits_in_either_direction_and_only_with_its_protocol():
    flows = flow_table([(6, *A, *B, 0, 5), (17, *A, *B, 0, 5)])
    assert names(log([(1, 6, *A, *B, "x")]), flows) == ["x", None]
    assert names(log([(1, 17, *B, *A, "x")]), flows) == [None, "x"]
    assert names(log([(1, 0, *B, *A, "x")]), flows) == ["x", "x"]


def test_a_line_beyond_the_tolerance_does_not_fit():
    flows = flow_table([(6, *A, *B, 10, 20)])
    for time, fits in ((6.9, False), (7.1, True), (22.9, True), (23.1, False)):
        assert names(log([(time, 6, *A, *B, "x")]), flows) == ["x" if fits else None]


def test_a_reused_port_belongs_to_the_app_of_its_time():
    flows = flow_table([(6, *A, *B, 0, 5), (6, *A, *B, 100, 105)])
    index = log([(1, 6, *A, *B, "x"), (101, 6, *A, *B, "y")])
    assert names(index, flows) == ["x", "y"]


def test_two_apps_within_one_flow_are_ambiguous_and_never_guessed():
    index = log([(1, 6, *A, *B, "x")] * 9 + [(4, 6, *A, *B, "y")])
    assert names(index, flow_table([(6, *A, *B, 0, 5)])) == ["?"]


def test_lines_of_unknown_apps_neither_label_nor_contradict():
    index = log([(1, 6, *A, *B, "x"), (2, 6, *A, *B, None)])
    assert names(index, flow_table([(6, *A, *B, 0, 5)])) == ["x"]


def test_a_long_line_covers_a_flow_within_it():
    lines = Lines()
    lines.add(START, START + 500 * S, 6, A, B, "x")
    lines.add(START + 10 * S, START + 11 * S, 6, A, B, "x")
    index = LogIndex(lines.table())
    assert names(index, flow_table([(6, *A, *B, 300, 301), (6, *A, *B, 600, 601)])) == ["x", None]


def test_ipv4_within_ipv6_and_long_ipv6_texts_are_the_same_address():
    index = log([(1, 6, "::ffff:10.0.0.2", 1, "2001:0db8:0::0001", 2, "x")])
    assert names(index, flow_table([(6, "10.0.0.2", 1, "2001:db8::1", 2, 0, 2)])) == ["x"]


def test_an_empty_log_and_no_flows_are_no_trouble():
    assert names(log([]), flow_table([(6, *A, *B, 0, 5)])) == [None]
    assert names(log([(1, 6, *A, *B, "x")]), flow_table([])) == []
    assert log([]).estimate(flow_table([(6, *A, *B, 0, 5)])) == Offset(0, 0, 0)


@given(st.data())
@settings(max_examples=100)
def test_the_join_equals_a_plain_one_from_the_rule(data):
    """The oracle: for every flow look at every line."""
    end = st.tuples(st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.integers(1, 2))
    time = st.integers(0, 60)
    rows = data.draw(
        st.lists(
            st.tuples(time, time, st.sampled_from([0, 6, 17]), end, end, st.sampled_from("xyz"))
        )
    )
    flows = data.draw(
        st.lists(st.tuples(st.sampled_from([6, 17]), end, end, time, time), max_size=8)
    )
    lines = Lines()
    for first, length, protocol, a, b, app in rows:
        lines.add(START + first * S, START + (first + length) * S, protocol, a, b, app)
    table = flow_table([(p, *a, *b, s, s + n) for p, a, b, s, n in flows])
    index = LogIndex(lines.table())
    expected = []
    for protocol, a, b, start, length in flows:
        apps = {
            app
            for first, long, of, c, d, app in rows
            if of in (0, protocol)
            and sorted((a, b)) == sorted((c, d))
            and first <= start + length + 3
            and first + long >= start - 3
        }
        expected.append(None if not apps else apps.pop() if len(apps) == 1 else "?")
    assert names(index, table) == expected


def synthetic(seed, n=20_000, *, is_start=False):
    """Flows with port reuse, and their lines: 2 s of jitter, 3 s of offset, 30 % lost, shuffled."""
    noise = np.random.default_rng(seed)
    n_tuples = n // 3
    tuple_of = noise.integers(0, n_tuples, n)
    start = noise.uniform(0, 86_400, n)
    length = noise.exponential(20, n)
    app = noise.integers(0, 30, n)
    rows = [
        (6, f"10.0.{t % 7}.2", 1024 + t % 60_000, f"192.0.2.{t % 200}", 443, s, s + d)
        for t, s, d in zip(tuple_of, start, length, strict=True)
    ]
    lines, n_lines = [], np.zeros(n, dtype=int)
    for i, (row, name) in enumerate(zip(rows, app, strict=True)):
        times = [row[5]] if is_start else [row[5], *noise.uniform(row[5], row[6], 8), row[6]]
        for time in times:
            if noise.random() < 0.3:
                continue
            jittered = time + 3.0 + noise.uniform(-2, 2)
            ends = (row[1:3], row[3:5]) if noise.random() < 0.5 else (row[3:5], row[1:3])
            lines.append((jittered, 6, *ends[0], *ends[1], f"app{name}"))
            n_lines[i] += 1
    order = noise.permutation(len(lines))
    return rows, app, tuple_of, [lines[i] for i in order], n_lines


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("is_start", [False, True])
def test_999_of_1000_joinable_flows_are_right_on_synthetic_truth(seed, is_start):
    """Joinable: a line of the flow is left, and no other app used its tuple within 10 s."""
    rows, app, tuple_of, lines, n_lines = synthetic(seed, is_start=is_start)
    flows, index = flow_table(rows), log(lines, is_start=is_start)
    offset = index.estimate(flows)
    assert abs(offset.offset_ms - 3000) < 150
    (got,) = index.label(flows, offset, DEFAULT_TOLERANCE_S)
    users = defaultdict(list)
    for i, number in enumerate(tuple_of):
        users[number].append(i)
    joinable = np.array(
        [
            n_lines[i] > 0
            and not any(
                app[j] != app[i] and rows[j][5] <= row[6] + 10 and rows[j][6] >= row[5] - 10
                for j in users[tuple_of[i]]
            )
            for i, row in enumerate(rows)
        ]
    )
    right = np.array(
        [g >= 0 and index.log.apps[g] == f"app{a}" for g, a in zip(got, app, strict=True)]
    )
    assert right[joinable].mean() >= 0.999
    assert ((got >= 0) & ~right).mean() <= 0.001
    assert joinable.mean() > (0.6 if is_start else 0.9)


def test_an_offset_of_hours_is_found_where_the_zone_is_unknown():
    rows, _, _, lines, _ = synthetic(5, 2000)
    shifted = [(line[0] + 7200, *line[1:]) for line in lines]
    offset = log(shifted).estimate(flow_table(rows), 16 * 3600)
    assert abs(offset.offset_ms - 7_203_000) < 300
