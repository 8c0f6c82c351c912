"""Classifiers on tokens: a linear model, and its fusion with a network.

Weights that are shared by groups, and regularisation, leave both calibrated on groups held out: a
temperature fitted on inner folds made it worse (docs/explanation/models.md), so there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from apptell.encoding.structure import N_TOKENS
from apptell.learning.catalogue_names import catalogue_names
from apptell.learning.export_tokens import Dense, Linear, tokens_to_onnx
from apptell.learning.name_tables import learn_names, split_keys
from apptell.learning.token_batch import TokenBatch, first_view, make_token_batch, matrix

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from apptell.learning.network_training import History
    from apptell.learning.progress import Progress

STRENGTH: Final = 30.0
"""Inverse strength of the linear model's regularisation; 10 and 100 are as good within a point."""
SHARE: Final = 0.5
"""The network's share of the log probabilities of a fusion."""
RATE: Final = 3e-3
"""Largest step of the network's AdamW, in one cycle."""
DECAY: Final = 1e-2
"""Its weight decay."""
_PASSES: Final = 300
_TOLERANCE: Final = 1e-3


class TokenLinear(ClassifierMixin, BaseEstimator):
    """Multinomial logistic regression on tokens of ``apptell.encoding.structure``.

    Parameters:
        strength: inverse strength of the regularisation.
        random_state: seed of the choice of views, where there are too many for all.
        catalogue: 1 to look up the catalogue's names of the classes as well.

    Attributes:
        classes_: the classes, sorted.
        vocabulary_: the number of each token, 0 for one that is not known, shape (65,536,).
        names_: the lookup of server names; None where the flows came without keys.

    Example:
        >>> from apptell.encoding import encode
        >>> flows = apptell.Dataset.open("dataset/").read()
        >>> X, y = encode(flows, "structure"), flows.column("label").to_pylist()
        >>> apptell.TokenLinear().fit(X, y).classes_.tolist()
        ['signal', 'zoom']
    """

    def __init__(
        self, *, strength: float = STRENGTH, random_state: int = 0, catalogue: int = 0
    ) -> None:
        self.strength = strength
        self.random_state = random_state
        self.catalogue = catalogue

    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Learns.

        Args:
            X: tokens, uint16, shape (n, width) or (n, views, width); the keys of server names may follow the
                tokens.
            y: classes, shape (n,).
            groups: where each flow came from, shape (n,).
        """
        X, target = self._checked(X, y)
        tokens, keys = split_keys(X, N_TOKENS)
        self._learn(make_token_batch(tokens, target, groups, self.random_state))
        self.names_ = None
        if tokens.shape != X.shape:
            self.names_ = learn_names(
                first_view(keys), target, groups, len(self.classes_), self.random_state,
                catalogue_names(self.classes_.tolist()) if self.catalogue else None,
            )  # fmt: skip
        return self

    def _learn(self, learned: TokenBatch) -> None:
        self.vocabulary_ = learned.vocabulary
        self.linear_ = self._linear(learned)

    def _checked(self, X: Any, y: ArrayLike) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
        X, y = np.asarray(X, dtype=np.uint16), np.asarray(y)
        check_classification_targets(y)
        self.classes_, target = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has only one class, {self.classes_[0]}; at least two are needed")
        return X, target.astype(np.int64)

    def _linear(self, learned: TokenBatch) -> Linear:
        """Weights and bias of every class; classes without flows are nearly impossible."""
        n_apps = len(self.classes_)
        regression = LogisticRegression(C=self.strength, max_iter=_PASSES, tol=_TOLERANCE)
        # The steps are too small to share: threads of the numeric libraries would wait for each other, and
        # on a busy machine take many times as long.
        with np.errstate(all="ignore"), threadpool_limits(1):
            regression.fit(
                matrix(learned.tokens, learned.vocabulary), learned.target, learned.weight
            )
        weights, bias = regression.coef_, regression.intercept_
        if len(weights) == 1:  # two classes: the score of the second against the first
            weights, bias = np.vstack([0 * weights, weights]), np.append(0.0, bias)
        table = np.zeros((learned.n_known + 1, n_apps), dtype=np.float32)
        table[:, regression.classes_] = weights.T
        table[0] = 0
        offset = np.full(n_apps, -20.0, dtype=np.float32)
        offset[regression.classes_] = bias
        return Linear(table, offset)

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Probabilities of the classes, shape (n, classes), columns as in ``classes_``."""
        check_is_fitted(self)
        tokens, keys = split_keys(first_view(np.asarray(X, dtype=np.uint16)), N_TOKENS)
        probabilities = np.exp(_log_softmax(self._scores(tokens)))
        if self.names_ is not None:
            probabilities = self.names_.mixed_into(probabilities, keys)
        return probabilities.astype(np.float32)

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class, shape (n,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def to_onnx(self) -> bytes:
        """The model as ONNX; its probabilities are in the order of ``classes_``."""
        check_is_fitted(self)
        return tokens_to_onnx(self.vocabulary_, self.linear_, names=self.names_)

    def _scores(self, X: NDArray[np.uint16]) -> NDArray[np.float64]:
        """Log probabilities, but for a constant of each row, shape (n, classes)."""
        return _log_softmax(_apply(self.linear_, X, self.vocabulary_))


class TokenFusion(TokenLinear):
    """The weighted sum of the log probabilities of the linear model and of a network of token embeddings.

    If ``fit`` is interrupted while the network is trained, the network is kept as it is, and
    ``history_.interrupted`` is set.

    Parameters:
        epochs: passes of the network over the training flows.
        device: ``auto``, ``cpu`` or ``cuda``.
        random_state: seed.
        progress: called about twice a second.
        strength: inverse strength of the linear model's regularisation.
        share: the network's share of the log probabilities.
        lr: largest step of AdamW.
        decay: weight decay of AdamW.
        catalogue: 1 to look up the catalogue's names of the classes as well.

    Attributes:
        history_: the network's training.

    Example:
        >>> from apptell.encoding import encode
        >>> flows = apptell.Dataset.open("dataset/").read()
        >>> X, y = encode(flows, "structure"), flows.column("label").to_pylist()
        >>> apptell.TokenFusion(1).fit(X, y).classes_.tolist()
        ['signal', 'zoom']
    """

    def __init__(
        self,
        epochs: int = 100,
        *,
        device: str = "auto",
        random_state: int = 0,
        progress: Callable[[Progress], None] | None = None,
        strength: float = STRENGTH,
        share: float = SHARE,
        lr: float = RATE,
        decay: float = DECAY,
        catalogue: int = 0,
    ) -> None:
        super().__init__(strength=strength, random_state=random_state, catalogue=catalogue)
        self.epochs = epochs
        self.device = device
        self.progress = progress
        self.share = share
        self.lr = lr
        self.decay = decay

    def _learn(self, learned: TokenBatch) -> None:
        super()._learn(learned)
        self.network_, self.history_ = self._network(learned)

    def to_onnx(self) -> bytes:
        """The model as ONNX; its probabilities are in the order of ``classes_``."""
        check_is_fitted(self)
        return tokens_to_onnx(
            self.vocabulary_, self.linear_, self.network_, self.share, names=self.names_
        )

    def _network(self, learned: TokenBatch) -> tuple[Dense, History]:
        from apptell.learning.token_network import train_tokens

        network, history = train_tokens(
            learned,
            len(self.classes_),
            epochs=self.epochs,
            seed=self.random_state,
            device=self.device,
            progress=self.progress,
            lr=self.lr,
            decay=self.decay,
        )
        parts = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
        dense = Dense(
            parts["table.weight"], parts["bias"], parts["dense.weight"], parts["dense.bias"]
        )
        return dense, history

    def _scores(self, X: NDArray[np.uint16]) -> NDArray[np.float64]:
        linear = super()._scores(X)
        network = _log_softmax(_apply(self.network_, X, self.vocabulary_))
        return (1 - self.share) * linear + self.share * network


def _apply(
    model: Linear | Dense, X: NDArray[np.uint16], vocabulary: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Scores of the classes, shape (n, classes)."""
    rows = matrix(X, vocabulary)
    if isinstance(model, Linear):
        return np.asarray(rows @ model.table + model.bias, dtype=np.float64)
    hidden = np.maximum(rows @ model.table + model.bias, 0)
    return np.asarray(hidden @ model.weight.T + model.offset, dtype=np.float64)


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    scores = scores - scores.max(axis=1, keepdims=True, initial=-np.inf)
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))
