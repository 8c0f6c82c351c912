"""The networks on images and on bytes as scikit-learn estimators."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from apptell.learning.convolutional import AppNetwork, ByteNetwork, PaperNetwork
from apptell.learning.export import network_to_onnx
from apptell.learning.network_training import BATCH, predict, train_network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from apptell.learning.progress import Progress


class AppClassifier(ClassifierMixin, BaseEstimator):
    """The paper's convolutional network (Section 3.2) on images of ``apptell.encoding.images``.

    Interrupting ``fit`` (Ctrl-C) after its first epoch leaves the best weights so far, and
    ``history_.interrupted`` is set.

    Parameters:
        epochs: passes over the training flows (the paper: 100).
        validation: share of the training flows that is held out for validation; the epoch with the lowest
            loss on it is kept. Zero, as in the paper, keeps the last epoch.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``auto`` (bfloat16 if the processor supports it), ``float32`` or ``bfloat16``.
        random_state: seed, or a NumPy ``RandomState``.
        progress: called with a ``Progress`` about twice a second.
        checkpoint: a file from which an interrupted ``fit`` with the same data and seed continues.
        lr: factor of Adadelta's own step.
        batch_size: flows in each step (the paper: 64).
        patience: epochs without a smaller loss on the validation share after which the training ends; zero
            trains all epochs.

    Attributes:
        classes_: the classes, sorted.
        network_: the trained network.
        history_: loss by epoch, the epoch kept, whether it was interrupted.
        n_features_in_: 7569.

    Example:
        >>> from apptell.encoding import encode
        >>> flows = apptell.Dataset.open("dataset/").read()
        >>> X, y = encode(flows, "image"), flows.column("label").to_pylist()
        >>> apptell.AppClassifier(1, device="cpu", random_state=0).fit(X, y).classes_.tolist()
        ['signal', 'zoom']
    """

    _kind: ClassVar[type[AppNetwork]] = PaperNetwork
    _said: ClassVar[str] = "an image has 7569 pixels (87 x 87)"

    def __init__(
        self,
        epochs: int = 100,
        *,
        validation: float = 0.0,
        device: str = "auto",
        precision: str = "auto",
        random_state: Any = None,
        progress: Callable[[Progress], None] | None = None,
        checkpoint: Path | None = None,
        lr: float = 1.0,
        batch_size: int = BATCH,
        patience: int = 0,
    ) -> None:
        self.epochs = epochs
        self.validation = validation
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.progress = progress
        self.checkpoint = checkpoint
        self.lr = lr
        self.batch_size = batch_size
        self.patience = patience

    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Trains the network.

        Args:
            X: images, pixels 0 to 255, shape (n, 87, 87) or (n, 7569).
            y: classes, shape (n,).
            groups: the source of each flow, shape (n,): no group is in both the training and the validation
                share.

        Raises:
            ValueError: images of another size, or fewer than two classes.
            UsageError: patience without a validation share.
            KeyboardInterrupt: interrupted before the first epoch was over.
        """
        X, y = validate_data(self, _flat(X), y, dtype=[np.uint8, np.float32])
        check_classification_targets(y)
        images = self._images(X)
        self.classes_, targets = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has only one class, {self.classes_[0]}; at least two are needed")
        random = check_random_state(self.random_state)
        seed = int(random.randint(2**31))
        self.network_, self.history_ = train_network(
            images,
            targets.astype(np.int64),
            len(self.classes_),
            kind=self._kind,
            epochs=self.epochs,
            seed=seed,
            device=self.device,
            precision=self.precision,
            validation=self._watched(targets, groups, seed),
            progress=self.progress,
            checkpoint=self.checkpoint,
            lr=self.lr,
            batch_size=self.batch_size,
            patience=self.patience,
        )
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Probabilities of the classes, shape (n, classes), columns as in ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, _flat(X), dtype=[np.uint8, np.float32], reset=False)
        return predict(self.network_, self._images(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class, shape (n,)."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def to_onnx(self) -> bytes:
        """The network as an ONNX model; its probabilities are in the order of ``classes_``."""
        check_is_fitted(self)
        return network_to_onnx(self.network_)

    def _images(self, X: NDArray[Any]) -> NDArray[Any]:
        """Reshapes rows to the network's input, shape (n, *shape)."""
        shape = self._kind.shape
        if X.shape[1] != math.prod(shape):
            raise ValueError(f"X has {X.shape[1]} features, but {self._said}")
        return X.reshape(-1, *shape)

    def _watched(
        self, targets: NDArray[np.int64], groups: ArrayLike | None, seed: int
    ) -> NDArray[np.int64] | None:
        """Rows of the validation share: whole groups where groups are given."""
        if not self.validation:
            return None
        splitter = ShuffleSplit if groups is None else GroupShuffleSplit
        split = splitter(1, test_size=self.validation, random_state=seed)
        _, rows = next(split.split(targets, groups=groups))
        return np.sort(rows).astype(np.int64)


class ByteClassifier(AppClassifier):
    """The one-dimensional network of Wang et al. (2017) on bytes of ``apptell.encoding.payloads``.

    It is trained as the paper's network is, and takes the same parameters; shape (n, 784).

    Example:
        >>> from apptell.encoding import encode
        >>> flows = apptell.Dataset.open("dataset/").read()
        >>> X, y = encode(flows, "payload"), flows.column("label").to_pylist()
        >>> apptell.ByteClassifier(1, device="cpu", random_state=0).fit(X, y).classes_.tolist()
        ['signal', 'zoom']
    """

    _kind = ByteNetwork
    _said = "a flow has 784 bytes"


def _flat(X: Any) -> Any:
    """Reshapes images to rows; other arrays are unchanged."""
    return X.reshape(len(X), -1) if isinstance(X, np.ndarray) and X.ndim == 3 else X
