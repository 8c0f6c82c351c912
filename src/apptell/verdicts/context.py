"""Re-weights the probabilities of a client's recent flows by the apps that the client seems to run.

A phone runs few apps at a time. The current likelihood of each app there is estimated from the client's own
flows of the last seconds, without labels: label-shift expectation maximisation, from Saerens, Latinne and
Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities" (Neural Computation,
2002). Each flow's probabilities are then divided by the app's frequency in the training data and multiplied
by its frequency there. There is no vote: a flow that resembles no other keeps its app. It needs calibrated
probabilities.

Two additions, for windows of a few flows: the estimate begins with some imaginary flows of the training
prior (a Dirichlet prior), and a flow is weighted by only the *other* flows, so that its own evidence is not
counted twice. A flow without others is unchanged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np

from apptell.errors import ApptellError, UsageError
from apptell.flows.schema import FlowBatch
from apptell.kernels.compiled import kernel
from apptell.verdicts.identity import Found
from apptell.verdicts.unlearned import extended, with_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

MOST_FLOWS: Final = 128
"""Maximum number of flows of one client for a prior, the nearest in time."""
MOST_CLIENTS: Final = 16_384
"""Maximum number of clients that are remembered; the one that has been silent longest is dropped first."""
LATE_NS: Final = 120_000_000_000
"""How long after its last packet a flow may still arrive: the timeout and a margin."""
_SECOND: Final = 1_000_000_000
_BATCH: Final = 2048
_KEY: Final = ("capture", "client_address")


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """How a client's flows are re-weighted.

    Raises:
        UsageError: a value is out of range.
    """

    window_s: float = 30.0
    """How far back other flows of the client count, by the time of their deciding packet."""
    both_sides: bool = False
    """Whether flows up to ``window_s`` later also count; only for files, where they are known."""
    strength: float = 1.0
    """Number of imaginary flows of the training prior, above 0: the more of them, the smaller the change."""
    iterations: int = 10
    """Steps of the expectation maximisation."""

    def __post_init__(self) -> None:
        if not 0 < self.window_s < float("inf"):
            raise UsageError(f"a context of {self.window_s} s is not above 0")
        if not self.strength > 0:
            raise UsageError(f"a strength of {self.strength} is not above 0")
        if self.iterations < 1:
            raise UsageError(f"{self.iterations} iterations are not 1 or more")

    @classmethod
    def parse(cls, text: str) -> ContextOptions:
        """From ``30``, ``30s`` or ``30s,both``.

        Raises:
            UsageError: it is none of them.
        """
        found = re.fullmatch(r"(\d+(?:\.\d+)?)s?(,both)?", text.strip())
        if not found:
            raise UsageError(f"context {text!r} is not seconds, as in 30s, or 30s,both")
        return cls(float(found[1]), found[2] is not None)


class Scored(NamedTuple):
    """Some flows with a model's probabilities."""

    flows: FlowBatch
    probabilities: NDArray[np.float32] | None
    """Shape (n, k); None for flows that the model was not asked about."""
    context_flows: NDArray[np.int32] | None = None
    """How many other flows each flow's prior rests on, shape (n,); None where context is off."""
    found: Found | None = None
    """The evidence on the n flows; None without evidence."""
    p_unknown: NDArray[np.float32] | None = None
    """How unusual each flow is for its likeliest app, shape (n,); None where that was not asked."""
    unknown_share: NDArray[np.float32] | None = None
    """Probability that each flow is of an unlearned app, which context weighs as it does apps, shape (n,)."""
    is_cut: NDArray[np.bool_] | None = None
    """Whether the model was not asked because the payload is cut, shape (n,); None where nobody looked."""


class Context(Protocol):
    """Re-weights flows as they pass."""

    def reweigh(self, scored: Iterable[Scored], *, keep: bool = True) -> Iterator[Scored]:
        """The same flows, re-weighted; with ``keep`` they are context of later ones."""


class RollingContext:
    """Context of a stream: each flow is weighted by those before it.

    Args:
        options: how; ``both_sides`` cannot be.
        prior: frequency of each app in the training data, shape (k,), sum 1.
    """

    def __init__(self, options: ContextOptions, prior: NDArray[np.float64]) -> None:
        if options.both_sides:
            raise UsageError(
                "context from both sides needs later flows too, so only files can have it"
            )
        self._options = options
        self._prior = prior
        self._recent: dict[Any, _Recent] = {}
        self._newest_ns = 0

    def reweigh(self, scored: Iterable[Scored], *, keep: bool = True) -> Iterator[Scored]:
        """Re-weights each batch by the time of the flows' deciding packets; see ``Context``."""
        for each in scored:
            flows, probabilities = each.flows, each.probabilities
            if probabilities is None:
                yield each
                continue
            keys, times = _keys(flows), times_of(flows)
            probabilities, prior = extended(probabilities, self._prior, each.unknown_share)
            found = np.array(probabilities, dtype=np.float32)
            others = np.zeros(len(flows), dtype=np.int32)
            for row in np.argsort(times, kind="stable"):
                if keys[row] is not None:
                    others[row] = self._one(
                        keys[row], int(times[row]), probabilities[row], prior, found[row], keep=keep
                    )
            yield with_context(each, found, others)

    def _one(
        self,
        key: Any,
        time_ns: int,
        own: NDArray[np.float32],
        prior: NDArray[np.float64],
        out: NDArray[np.float32],
        *,
        keep: bool,
    ) -> int:
        recent = self._recent.pop(key, None) or _Recent(len(prior))
        window_ns = int(self._options.window_s * _SECOND)
        rows = np.vstack([recent.between(time_ns - window_ns, time_ns), own[None]])
        _weigh(rows, len(rows) - 1, prior, self._options, out)
        if keep:
            recent.add(time_ns, own)
        if recent.n:
            self._recent[key] = recent  # the last heard of stands last
        self._newest_ns = max(self._newest_ns, time_ns)
        self._forget(self._newest_ns - window_ns - LATE_NS)
        return len(rows) - 1

    def _forget(self, before_ns: int) -> None:
        while self._recent:
            key, longest = next(iter(self._recent.items()))
            if longest.newest_ns >= before_ns and len(self._recent) <= MOST_CLIENTS:
                break
            del self._recent[key]


class WholeContext:
    """Context of a file: flows are held until the last has arrived, and then weighted in order of time.

    Their order is that of their deciding packets, as in a stream. A flow takes k numbers and the columns of a
    verdict; its payload is dropped.

    Args:
        options: how.
        prior: frequency of each app in the training data, shape (k,), sum 1.
        columns: columns of the flows that are still needed.
    """

    def __init__(
        self, options: ContextOptions, prior: NDArray[np.float64], columns: Iterable[str]
    ) -> None:
        self._options = options
        self._prior = prior
        self._columns = {*columns, *_KEY, "decided_ns", "start_ns"}

    def reweigh(self, scored: Iterable[Scored], *, keep: bool = True) -> Iterator[Scored]:
        """All flows, in order of time; an error in between comes after those before it."""
        del keep  # all flows are context of all
        held: list[Scored] = []
        failed: ApptellError | None = None
        try:
            for each in scored:
                if each.probabilities is None:
                    yield each
                else:
                    held.append(self._without_payload(each))
        except ApptellError as error:
            failed = error
        if held:
            yield from self._all(held)
        if failed is not None:
            raise failed

    def _without_payload(self, scored: Scored) -> Scored:
        batch = scored.flows.to_arrow()
        there = [name for name in batch.schema.names if name in self._columns]
        flows = FlowBatch.trusted(batch.select(there))
        found = None if scored.found is None else replace(scored.found, flows=flows)
        return scored._replace(flows=flows, found=found)

    def _all(self, held: Sequence[Scored]) -> Iterator[Scored]:
        flows = FlowBatch.concat([each.flows for each in held])
        times = times_of(flows)
        shares = [each.unknown_share for each in held if each.unknown_share is not None]
        share = np.concatenate(shares) if shares else None
        every = [each.probabilities for each in held if each.probabilities is not None]
        own, prior = extended(np.concatenate(every), self._prior, share)
        probabilities, others = reweigh_all(_keys(flows), times, own, prior, self._options)
        by_evidence = [each.found for each in held if each.found is not None]
        found = Found.concat(by_evidence) if by_evidence else None
        unusual = [each.p_unknown for each in held if each.p_unknown is not None]
        p_unknown = np.concatenate(unusual) if unusual else None
        order = np.argsort(times, kind="stable")
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            part = None if found is None else found.take(rows)
            chosen = flows.take(rows) if part is None else part.flows
            one = Scored(
                chosen,
                None,
                None,
                part,
                None if p_unknown is None else p_unknown[rows],
                None if share is None else share[rows],
            )
            yield with_context(one, probabilities[rows], others[rows])


def reweigh_all(
    keys: Iterable[Any],
    times_ns: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    prior: NDArray[np.float64],
    options: ContextOptions,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The re-weighted probabilities of flows that are all known.

    Args:
        keys: whose each flow is, hashable, n of them; None for a flow without context.
        times_ns: of each flow, shape (n,).
        probabilities: calibrated, shape (n, k).
        prior: frequency of each app in the training data, shape (k,), sum 1.
        options: how.

    Returns:
        Probabilities, float32, shape (n, k), and how many other flows each rests on, shape (n,).
    """
    number: dict[Any, int] = {}
    of_client = np.array(
        [-1 if key is None else number.setdefault(key, len(number)) for key in keys], dtype=np.int64
    )
    found = np.array(probabilities, dtype=np.float32)
    others = np.zeros(len(found), dtype=np.int32)
    order = np.lexsort((times_ns, of_client))
    window_ns = int(options.window_s * _SECOND)
    begin = int(np.searchsorted(of_client[order], 0))
    ends = np.searchsorted(of_client[order], np.arange(len(number)), side="right")
    for end in ends.tolist():
        rows = order[begin:end]
        times, own = times_ns[rows], probabilities[rows]
        first = np.searchsorted(times, times - window_ns)
        last = np.arange(1, len(rows) + 1)
        if options.both_sides:
            last = np.searchsorted(times, times + window_ns, side="right")
        for at, row in enumerate(rows):
            low, high = _nearest(int(first[at]), int(last[at]), at)
            _weigh(own[low:high], at - low, prior, options, found[row])
            others[row] = high - low - 1
        begin = end
    return found, others


def _nearest(first: int, last: int, at: int) -> tuple[int, int]:
    """At most MOST_FLOWS rows around ``at``, within first to last."""
    low = max(first, min(at - MOST_FLOWS // 2, last - MOST_FLOWS))
    return low, min(last, low + MOST_FLOWS)


def _weigh(
    rows: NDArray[np.float32],
    own: int,
    prior: NDArray[np.float64],
    options: ContextOptions,
    out: NDArray[np.float32],
) -> None:
    if len(rows) > 1:
        weigh_one(rows, own, prior, options.strength, options.iterations, out)


@kernel
def weigh_one(
    probabilities: NDArray[np.float32],
    own: int,
    prior: NDArray[np.float64],
    strength: float,
    iterations: int,
    out: NDArray[Any],
) -> None:
    """Writes the probabilities of one flow under the prior estimated from the other flows of its window.

    Args:
        probabilities: of the m flows of the window under the training prior, shape (m, k).
        own: row of the flow.
        prior: of the training, shape (k,).
        strength: imaginary flows of that prior; 0 for Saerens's algorithm as it stands.
        iterations: steps.
        out: gets the result, shape (k,), sum 1.
    """
    posterior, total = estimate(probabilities, prior, strength, iterations)
    n, k = posterior.shape
    found = np.zeros(k)
    whole = 0.0
    for app in range(k):
        here = (total[app] - posterior[own, app] + strength * prior[app]) / (n - 1 + strength)
        if prior[app] > 0:
            found[app] = probabilities[own, app] * max(here, 0.0) / prior[app]
        whole += found[app]
    for app in range(k):
        out[app] = found[app] / whole if whole > 0 else probabilities[own, app]


@kernel
def estimate(
    probabilities: NDArray[np.float32],
    prior: NDArray[np.float64],
    strength: float,
    iterations: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expectation maximisation of a window's prior (Saerens et al., equation 2.9).

    Returns:
        The posterior of each flow after the last step, shape (m, k), and its sum over flows, (k,).
    """
    n, k = probabilities.shape
    here = prior.copy()
    posterior = np.zeros((n, k))
    total = np.zeros(k)
    for _ in range(iterations):
        total[:] = 0.0
        for row in range(n):
            whole = 0.0
            for app in range(k):
                weight = here[app] / prior[app] if prior[app] > 0 else 0.0
                posterior[row, app] = probabilities[row, app] * weight
                whole += posterior[row, app]
            for app in range(k):
                if whole > 0:
                    posterior[row, app] /= whole
                else:  # all its apps were ruled out, so it adds no information
                    posterior[row, app] = probabilities[row, app]
                total[app] += posterior[row, app]
        for app in range(k):
            here[app] = (total[app] + strength * prior[app]) / (n + strength)
    return posterior, total


class _Recent:
    """The newest flows of one client in the order in which they came."""

    __slots__ = ("n", "newest_ns", "probabilities", "times")

    def __init__(self, k: int) -> None:
        self.n = 0
        self.newest_ns = 0
        self.times = np.zeros(8, dtype=np.int64)
        self.probabilities = np.zeros((8, k), dtype=np.float32)

    def between(self, first_ns: int, last_ns: int) -> NDArray[np.float32]:
        """Probabilities of the newest flows in that time, shape (at most MOST_FLOWS - 1, k)."""
        times = self.times[: self.n]
        rows = np.flatnonzero((times >= first_ns) & (times <= last_ns))
        return self.probabilities[rows[-(MOST_FLOWS - 1) :]]

    def add(self, time_ns: int, row: NDArray[np.float32]) -> None:
        """One more; the oldest goes when there are too many."""
        if self.n == MOST_FLOWS:
            self.times[:-1] = self.times[1:]
            self.probabilities[:-1] = self.probabilities[1:]
            self.n -= 1
        elif self.n == len(self.times):
            self.times = np.concatenate([self.times, np.zeros_like(self.times)])
            empty = np.zeros_like(self.probabilities)
            self.probabilities = np.concatenate([self.probabilities, empty])
        self.times[self.n] = time_ns
        self.probabilities[self.n] = row
        self.n += 1
        self.newest_ns = max(self.newest_ns, time_ns)


def _keys(flows: FlowBatch) -> list[Any]:
    """Whose each flow is: the client of a capture; None where it is not known."""
    there = set(flows.columns)
    client = flows.column("client_address").to_pylist() if "client_address" in there else []
    if not client:
        return [None] * len(flows)
    capture = flows.column("capture").to_pylist() if "capture" in there else [None] * len(flows)
    return [who and (where, who) for where, who in zip(capture, client, strict=True)]


def times_of(flows: FlowBatch) -> NDArray[np.int64]:
    """When each flow's deciding packet came, else its first, ns; shape (n,)."""
    start = flows.column("start_ns")
    there = "decided_ns" in set(flows.columns)
    times = flows.column("decided_ns").fill_null(-1) if there else start
    found = np.asarray(times.to_numpy(zero_copy_only=False), dtype=np.int64)
    first = np.asarray(start.to_numpy(zero_copy_only=False), dtype=np.int64)
    return np.where(found < 0, first, found)
