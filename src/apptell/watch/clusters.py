"""Groups flows that a model calls unknown or declines into candidates for new apps.

Flows are gathered by client and window. Where a client runs one app at a time, windows are clustered: by the
mean square roots of their flows' probabilities and by the mean TF-IDF weights of their tokens or lengths
(HDBSCAN, leaves: Campello, Moulavi and Sander, "Density-Based Clustering Based on Hierarchical Density
Estimates", 2013). Where apps mix in the windows, single flows are clustered together with what their window is
like, into more clusters than there can be apps (Ward, 1963), because a mixed cluster is worth less than two
pure ones. How the settings were chosen stands in docs/reports/open-world.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.errors import needs_extra

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.watch.traffic import WatchedTraffic

WINDOW_NS: Final = 30_000_000_000
"""Length of a client's windows."""
LEAST_STRANGE: Final = 2
"""Strange flows that a window needs."""
LEAST_SHARE: Final = 0.1
"""Mean probability of an unlearned app that a window needs, ..."""
LEAST_SHARE_MIXED: Final = 0.2
"""... that it needs where apps mix, ..."""
LEAST_EXCESS: Final = 0.5
"""... or otherwise: how far strange flows must be above the usual share, as part of the way to 1."""
MIXED_APPS: Final = 1.6
"""Mean number of apps named in a window from which on apps mix."""
LEAST_FLOWS: Final = 10
"""Flows of a candidate; and it needs two windows."""
MOST_WINDOWS: Final = 20_000
"""Windows that are clustered at most, and ..."""
MOST_MIXED: Final = 8_000
"""... flows where apps mix: the memory of both methods grows with the square. More are drawn at random."""
_CLUSTER_WINDOWS: Final = 3
_CLUSTER_FLOWS: Final = 15
_PARTS: Final = 50
"""Components that TF-IDF weights are reduced to."""
_LENGTH_STEP: Final = 16
_LENGTH_KINDS: Final = 401
_NEAR: Final = 0.6
"""Squared distance from the median, at most about 2, within which most windows are one cluster."""
_FEW: Final = 5
"""Flows of a window that is asked how many apps it has."""


def windows_of(clients: NDArray[np.int64], times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of each flow's window: a client's flows within WINDOW_NS of the window's first, shape (n,)."""
    found = np.zeros(len(clients), dtype=np.int64)
    window, begin, client = -1, 0, -1
    for row in np.lexsort((times_ns, clients)).tolist():
        if clients[row] != client or times_ns[row] - begin > WINDOW_NS:
            window, begin, client = window + 1, int(times_ns[row]), int(clients[row])
        found[row] = window
    return found


def is_mixed(traffic: WatchedTraffic, window: NDArray[np.int64]) -> bool:
    """Whether clients run several apps at once: whether their windows have several apps that are named."""
    many = np.bincount(window)[window] >= _FEW
    chosen = many & ~traffic.is_strange
    if not chosen.any():
        return False
    pairs = np.unique(np.column_stack([window[chosen], traffic.verdict[chosen]]), axis=0)
    return len(pairs) / len(np.unique(window[many])) > MIXED_APPS


def find_clusters(traffic: WatchedTraffic, seed: int = 0) -> tuple[NDArray[np.int64], bool]:
    """The cluster of each flow, and whether apps mix.

    Args:
        traffic: n flows.
        seed: of the draw where there are too many.

    Returns:
        Numbers from 0, the largest cluster first, and -1 for flows of no cluster, shape (n,).

    Raises:
        MissingError: scikit-learn is not installed.
    """
    label = np.full(len(traffic), -1, dtype=np.int64)
    if not len(traffic):
        return label, False
    window = windows_of(traffic.clients, traffic.times_ns)
    mixed = is_mixed(traffic, window)
    rows = _strange_rows(traffic, window, LEAST_SHARE_MIXED if mixed else LEAST_SHARE, seed)
    if mixed and len(rows) > MOST_MIXED:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_MIXED, replace=False))
    of_row = np.unique(window[rows], return_inverse=True)[1]
    if len(rows) < LEAST_FLOWS or of_row.max() < _CLUSTER_WINDOWS - 1:
        return label, mixed
    with needs_extra("train", "discovery of apps"):
        label[rows] = (_by_flow if mixed else _by_window)(traffic, rows, of_row, seed)
    for number in np.unique(label[label >= 0]).tolist():
        own = label == number
        if own.sum() < LEAST_FLOWS or len(np.unique(window[own])) < 2:
            label[own] = -1
    return _largest_first(label), mixed


def _strange_rows(
    traffic: WatchedTraffic, window: NDArray[np.int64], least_share: float, seed: int
) -> NDArray[np.int64]:
    """Strange flows in windows that look unlearned as a whole."""
    size = np.bincount(window)
    share = np.bincount(window, traffic.unknown_share) / size
    strange = np.bincount(window[traffic.is_strange], minlength=len(size))
    usual = min(traffic.usual_strange, 0.95)
    excess = (strange / size - usual) / (1 - usual)
    is_odd = (share >= least_share) | (excess >= LEAST_EXCESS)
    wanted = np.flatnonzero(is_odd & (strange >= LEAST_STRANGE))
    if len(wanted) > MOST_WINDOWS:
        wanted = np.random.default_rng(seed).choice(wanted, MOST_WINDOWS, replace=False)
    return np.flatnonzero(traffic.is_strange & np.isin(window, wanted))


def _by_window(
    traffic: WatchedTraffic, rows: NDArray[np.int64], of_row: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    from sklearn.cluster import HDBSCAN

    features = np.hstack(_window_features(traffic, rows, of_row, seed))
    scan = HDBSCAN(
        min_cluster_size=_CLUSTER_WINDOWS,
        min_samples=2,
        cluster_selection_method="leaf",
        copy=True,
    )
    found = np.asarray(scan.fit_predict(features), dtype=np.int64)
    if (found < 0).all():  # HDBSCAN finds several clusters or none; these windows may be of one app
        distance = ((features - np.median(features, axis=0)) ** 2).sum(axis=1)
        is_near = distance <= _NEAR
        if is_near.mean() >= 0.5:
            found[is_near] = 0
    return found[of_row]


def _by_flow(
    traffic: WatchedTraffic, rows: NDArray[np.int64], of_row: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.preprocessing import normalize

    windows = np.hstack(_window_features(traffic, rows, of_row, seed))
    own = (normalize(np.sqrt(traffic.probabilities[rows])), normalize(_parts(traffic, rows, seed)))
    features = np.hstack([*own, windows[of_row]])
    n = min(max(2, len(rows) // _CLUSTER_FLOWS), len(rows))
    return np.asarray(AgglomerativeClustering(n).fit_predict(features), dtype=np.int64)


def _window_features(
    traffic: WatchedTraffic, rows: NDArray[np.int64], of_row: NDArray[np.int64], seed: int
) -> list[NDArray[np.float64]]:
    """Mean square roots of probabilities, and mean weights, each of length 1; shape (windows, ...)."""
    from scipy import sparse
    from sklearn.preprocessing import normalize

    shape = (int(of_row.max()) + 1, len(rows))
    member = sparse.csr_matrix((np.ones(len(rows)), (of_row, np.arange(len(rows)))), shape=shape)
    both = (np.sqrt(traffic.probabilities[rows]), _parts(traffic, rows, seed))
    return [normalize(member @ each) for each in both]


def _parts(traffic: WatchedTraffic, rows: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """TF-IDF weights of the flows' terms, reduced to a few components, shape (rows, components)."""
    from scipy import sparse
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    terms = _terms(traffic)
    n, width = terms.shape
    frequency = np.bincount(terms.indices, minlength=width)
    weighed = normalize(terms[rows] @ sparse.diags(np.log((1 + n) / (1 + frequency))))
    kept = np.flatnonzero(np.bincount(weighed.indices, minlength=width))
    weighed = weighed[:, kept]
    if min(weighed.shape) <= _PARTS:
        return np.asarray(weighed.toarray(), dtype=np.float64)
    return np.asarray(TruncatedSVD(_PARTS, random_state=seed).fit_transform(weighed))


def _terms(traffic: WatchedTraffic) -> Any:
    """Whether each flow has each term, a sparse matrix: tokens, else lengths by place, else names."""
    from scipy import sparse

    inputs, n = traffic.inputs, len(traffic)
    if inputs is not None and inputs.dtype == np.uint16:
        flow, at = np.nonzero(inputs)
        term = inputs[flow, at].astype(np.int64)
    elif traffic.lengths is not None:
        kind = np.sign(traffic.lengths) * (1 + np.abs(traffic.lengths) // _LENGTH_STEP)
        kind = np.clip(kind + _LENGTH_KINDS // 2, 0, _LENGTH_KINDS - 1).astype(np.int64)
        flow, at = np.indices(kind.shape).reshape(2, -1)
        term = at * _LENGTH_KINDS + kind.ravel()
    else:
        flow, term = _name_terms(traffic)
    width = int(term.max(initial=0)) + 1
    found = sparse.csr_matrix((np.ones(len(term)), (flow, term)), shape=(n, width))
    found.data[:] = 1
    return found


def _name_terms(traffic: WatchedTraffic) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same of records: names, JA4, port and service."""
    numbers: dict[tuple[str, Any], int] = {}
    flow, term = [], []
    for name in ("server_name", "http_host", "dns_name", "ja4", "alpn", "service", "server_port"):
        for row, value in enumerate(traffic.table[name].to_pylist()):
            if value is not None:
                flow.append(row)
                term.append(numbers.setdefault((name, value), len(numbers)))
    return np.array(flow, dtype=np.int64), np.array(term, dtype=np.int64)


def _largest_first(label: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same clusters, numbered by size."""
    names, size = np.unique(label[label >= 0], return_counts=True)
    rank = {int(names[at]): place for place, at in enumerate(np.argsort(-size, kind="stable"))}
    return np.array([rank.get(each, -1) for each in label.tolist()], dtype=np.int64)
