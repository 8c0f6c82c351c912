"""Finds the flows of a model's training set that are most like a flow, in the rows that the model keeps.

Between flows of tokens, the similarity is the cosine of TF-IDF weights: fields that few training flows have
count most. Between flows of numbers it is 1 / (1 + d), where d is the mean difference of a feature in standard
deviations of the training set. Kept rows have no addresses, and groups only as numbers; what two flows share is
said in the words of the flow that is asked about.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.encoding.structure import N_TOKENS
from apptell.encoding.tokens import N_BUCKETS
from apptell.reasons.occlusion import feature_parts
from apptell.reasons.token_reason import meanings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch
    from apptell.models import Model
    from apptell.models.training_rows import TrainingRows

COUNTED: Final = 50
"""The most similar flows, whose apps are counted."""
SHOWN_FLOWS: Final = 5
"""Similar flows that are shown unless another number is asked for."""
COSINE: Final = "cosine of the fields that both have, rare fields counting most"
DISTANCE: Final = "1 / (1 + mean difference of the features in standard deviations)"
_WORDS: Final = 5
"""Shared parts that are named."""
_CHUNK: Final = 4096
_ALIKE: Final = 0.1
"""Standard deviations up to which two values are alike."""
_FEATURES: Final = ("statistics", "bursts", "lengths", "sequence")


class SimilarFlow(NamedTuple):
    """The flow of one app and one group of the training set that is most like a flow."""

    similarity: float
    """0 to 1."""
    app: str
    group: int
    """Number of the network or session that it is from; names of groups are not kept."""
    n_flows: int
    """Flows of this app and group among the ``COUNTED`` most similar."""
    n_shared: int
    """Parts that both flows have."""
    shared: tuple[str, ...]
    """Some of these in words: first what few training flows have."""


class SimilarFlows(NamedTuple):
    """What a model's training set has that is like a flow."""

    measure: str
    """What the similarity is, in words."""
    n_rows: int
    """Flows of the training set."""
    n_parts: int
    """Parts of the flow that is asked about."""
    apps: tuple[tuple[str, int], ...]
    """The apps of the most similar flows and how many are of each, most first."""
    nearest: tuple[SimilarFlow, ...]
    """The most similar first; each of another app or group."""

    @property
    def n_counted(self) -> int:
        """The number of the most similar flows, whose apps are counted."""
        return sum(n for _, n in self.apps)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "measure": self.measure,
            "rows": self.n_rows,
            "parts": self.n_parts,
            "apps": [{"app": app, "flows": n} for app, n in self.apps],
            "nearest": [
                {
                    "similarity": round(each.similarity, 6),
                    "app": each.app,
                    "group": each.group,
                    "flows": each.n_flows,
                    "shared_parts": each.n_shared,
                    "shared": list(each.shared),
                }
                for each in self.nearest
            ],
        }


class KeptFlows:
    """The training set of one model. Use ``KeptFlows.of`` to read it.

    Args:
        model: whose rows they are.
        rows: at least one.
    """

    def __init__(self, model: Model, rows: TrainingRows) -> None:
        self._model, self._rows = model, rows
        inputs = rows.inputs[:, 0] if rows.encoded.views else rows.inputs
        self._space = (
            _TokenSpace(inputs) if rows.encoded.inputs == "structure" else _NumberSpace(inputs)
        )

    @classmethod
    def of(cls, model: Model) -> KeptFlows | None:
        """The training set of a model; None where it keeps none, or one of an encoding that has no parts.

        Raises:
            ModelError: the rows are damaged, or those of another model.
        """
        if model.info["inputs"] not in ("structure", *_FEATURES):
            return None
        rows = model.kept_rows()
        return cls(model, rows) if rows is not None and len(rows) else None

    def like(self, flows: FlowBatch, most: int = SHOWN_FLOWS) -> SimilarFlows:
        """The flows of the training set that are most like a flow.

        Args:
            flows: one flow with the groups *core*, *segments* and *names*.
            most: similar flows that are returned, each of another app or group.

        Raises:
            DatasetError: a column is missing.
        """
        x = self._model.encode(flows)[0]
        space = self._space
        similarity = space.similarity(x)
        ordered = np.argsort(-similarity, kind="stable")
        ordered = ordered[similarity[ordered] > 0]
        rows = self._rows
        counted = ordered[:COUNTED]
        numbers = rows.groups[counted].tolist()
        of = Counter(zip(rows.apps[counted].tolist(), numbers, strict=True))
        parts = space.parts(x, flows, self._model)
        first: dict[tuple[str, int], int] = {}
        for row in ordered.tolist():
            first.setdefault((str(rows.apps[row]), int(rows.groups[row])), row)
            if len(first) == most:
                break
        nearest = []
        for (app, group), row in first.items():
            shared = space.shared(x, row, parts)
            nearest.append(
                SimilarFlow(
                    min(float(similarity[row]), 1.0),
                    app,
                    group,
                    of[app, group],
                    len(shared),
                    tuple(shared[:_WORDS]),
                )
            )
        apps = Counter(rows.apps[counted].tolist()).most_common()
        return SimilarFlows(space.measure, len(rows), len(parts), tuple(apps), tuple(nearest))


_Parts = list[tuple[Any, str]]
"""What a part is in a space, and its words."""


class _TokenSpace:
    """Flows as sets of tokens."""

    measure = COSINE

    def __init__(self, inputs: NDArray[Any]) -> None:
        self._tokens = inputs[:, :N_TOKENS]
        frequency = np.zeros(N_BUCKETS, dtype=np.int64)
        for _, chunk in _chunks(self._tokens):
            frequency += np.bincount(chunk.reshape(-1), minlength=N_BUCKETS)
        self._weight = np.log((1 + len(inputs)) / (1 + frequency))
        self._weight[0] = 0  # behind the last token
        self._length = np.sqrt(self._sums(np.square(self._weight)))

    def similarity(self, x: NDArray[Any]) -> NDArray[np.float64]:
        own = np.zeros(N_BUCKETS)
        tokens = x[:N_TOKENS]
        own[tokens] = np.square(self._weight[tokens])
        length = np.sqrt(own.sum()) * self._length
        return np.asarray(self._sums(own) / np.maximum(length, 1e-9))

    def parts(self, x: NDArray[Any], flows: FlowBatch, model: Model) -> _Parts:
        sink = meanings_of(flows, model)
        tokens = [token for token in x[:N_TOKENS].tolist() if token]
        tokens.sort(key=lambda token: -self._weight[token])
        return [
            (token, sink.meanings[token].words if token in sink.meanings else f"token {token}")
            for token in tokens
        ]

    def shared(self, x: NDArray[Any], row: int, parts: _Parts) -> list[str]:
        del x
        theirs = set(self._tokens[row].tolist())
        return [words for token, words in parts if token in theirs]

    def _sums(self, of: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum over the tokens of each flow."""
        found = np.zeros(len(self._tokens))
        for start, chunk in _chunks(self._tokens):
            found[start : start + len(chunk)] = of[chunk].sum(axis=1)
        return found


class _NumberSpace:
    """Flows as features."""

    measure = DISTANCE

    def __init__(self, inputs: NDArray[Any]) -> None:
        self._inputs = inputs
        scale = inputs.std(axis=0, dtype=np.float64)
        self._scale = np.where(scale > 0, scale, 1.0)

    def similarity(self, x: NDArray[Any]) -> NDArray[np.float64]:
        found = np.zeros(len(self._inputs))
        for start, chunk in _chunks(self._inputs):
            apart = np.abs(chunk - x) / self._scale
            found[start : start + len(chunk)] = 1 / (1 + apart.reshape(len(chunk), -1).mean(axis=1))
        return found

    def parts(self, x: NDArray[Any], flows: FlowBatch, model: Model) -> _Parts:
        del flows
        found = feature_parts(x, model)
        rare = [self._alike(x, self._inputs, places).mean() for places, _ in found]
        return [found[at] for at in np.argsort(rare, kind="stable").tolist()]

    def shared(self, x: NDArray[Any], row: int, parts: _Parts) -> list[str]:
        theirs = self._inputs[row : row + 1]
        return [words for places, words in parts if self._alike(x, theirs, places)[0]]

    def _alike(self, x: NDArray[Any], rows: NDArray[Any], places: Any) -> NDArray[np.bool_]:
        """Which rows are alike at all places of a part."""
        found = np.ones(len(rows), dtype=bool)
        for place in places:
            apart = np.abs(rows[(slice(None), *place)] - x[place])
            found &= apart <= _ALIKE * self._scale[place]
        return found


def _chunks(rows: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Some rows at a time, each with the place of the first: less memory than all at once."""
    for start in range(0, len(rows), _CHUNK):
        yield start, rows[start : start + _CHUNK]
