from __future__ import annotations

import numpy as np

from apptell.experiments.adapt import adapt

SECOND = 1_000_000_000


def test_flows_are_taken_where_their_client_makes_them_clear() -> None:
    # one phone runs the first app: a doubtful flow of it is taken as the first app's;
    # another phone has one doubtful flow alone, which nobody can tell
    p = np.array([[0.97, 0.03]] * 6 + [[0.5, 0.5], [0.5, 0.5], [0.0, 1.0]], dtype=np.float32)
    clients = ["a"] * 7 + ["b", "c"]
    times = np.arange(9) * SECOND
    rows, apps = adapt(p, np.array([0.5, 0.5]), clients, times)
    assert rows.tolist() == [0, 1, 2, 3, 4, 5, 6, 8]
    assert apps.tolist() == [0] * 7 + [1]


def test_nothing_is_taken_where_nothing_is_sure() -> None:
    p = np.full((4, 2), 0.5, dtype=np.float32)
    rows, apps = adapt(p, np.array([0.5, 0.5]), ["a"] * 4, np.arange(4) * SECOND)
    assert len(rows) == len(apps) == 0
