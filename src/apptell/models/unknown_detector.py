"""Recognises flows of apps that a model has not learned.

A score is a weighted sum of what distinguishes flows of unlearned apps. Its rank among held-out flows of the
same predicted class measures how unusual the score is for that class (Vovk et al., "Algorithmic Learning in a
Random World", 2005: Mondrian conformal prediction). The rank above which a flow is called unknown is the one
above which the stated share of flows of known apps lay when their networks or sessions were held out.
``apptell.learning.detector_training`` makes all of this from the training flows.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.errors import ModelError, UsageError
from apptell.models.nearest_tokens import NearestTokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

N_LENGTHS: Final = 10
"""Payload packets whose lengths are compared, at most."""
_STEP: Final = 16
"""Bytes of payload that count as one length."""
_SIZES: Final = 95
N_BINS: Final = 1 + 2 * _SIZES
"""Kinds of lengths: none, and sizes in each direction."""
FEATURES: Final = (
    "max_probability",
    "entropy",
    "margin",
    "energy",
    "length_ratio",
    "length_rarity",
    "neighbour",
)
"""The features of a score; each is large for flows that look unknown.

In this order: the negative logarithm of the largest probability; the entropy of the probabilities, 1 where
all are alike; the negative difference of the two largest log probabilities; the mean log probability (the free
energy of the log probabilities when their mean is subtracted); how much less likely the lengths are under the
predicted class than under all classes; how rare the lengths are at all; and 1 minus the similarity of the
nearest reference flow, for models on tokens."""
LEVELS: Final = np.concatenate([np.arange(90) / 100, 0.9 + np.arange(101) / 1000])
"""Ranks at which the scores of held-out flows are kept."""
_LEAST: Final = 1e-5
"""The smallest probability that differs from 0; further digits depend on how many flows ran at once."""
_DIGITS: Final = 4


def parse_rate(text: str) -> float:
    """A share from ``5%`` or ``0.05``.

    Raises:
        UsageError: it is neither, or not above 0 and below 1.
    """
    found = re.fullmatch(r"(\d*\.?\d+)\s*(%?)", text.strip())
    rate = 0.0 if not found else float(found[1]) / (100 if found[2] else 1)
    if not 0 < rate < 1:
        raise UsageError(f"rate {text!r} is not a share above 0 and below 1, as in 5% or 0.05")
    return rate


@dataclass(frozen=True, slots=True)
class LengthTable:
    """How common lengths are, for each of the first payload packets."""

    ratio: NDArray[np.float32]
    """Log of how much likelier a length is in a class than in all flows, shape (packets, N_BINS, k)."""
    rarity: NDArray[np.float32]
    """Negative log probability of a length in all flows, shape (packets, N_BINS)."""

    @classmethod
    def of(
        cls, lengths: NDArray[np.float32], target: NDArray[np.int64], n_classes: int
    ) -> LengthTable:
        """The table of some flows; every class counts alike.

        Args:
            lengths: signed payload lengths, 0 for none, shape (n, packets).
            target: class of each flow, shape (n,).
            n_classes: how many there are.
        """
        bins = length_bins(lengths)
        packets = bins.shape[1]
        count = np.zeros((packets, N_BINS, n_classes))
        for packet in range(packets):
            np.add.at(count[packet], (bins[:, packet], target), 1)
        size = np.maximum(np.bincount(target, minlength=n_classes), 1)
        every = (count / size).mean(axis=2) + 1e-4
        every /= every.sum(axis=1, keepdims=True)
        smooth = 5.0  # flows of the common distribution that each class is given
        share = (count + smooth * every[:, :, None]) / (size + smooth)
        ratio = np.log(share / every[:, :, None])
        return cls(ratio.astype(np.float32), -np.log(every).astype(np.float32))

    def features(
        self, lengths: NDArray[np.float32], best: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``length_ratio`` and ``length_rarity`` of n flows whose predicted classes are ``best``."""
        bins = length_bins(lengths)
        packet = np.arange(bins.shape[1])
        ratio = self.ratio[packet, bins, best[:, None]].sum(axis=1)
        return -ratio, self.rarity[packet, bins].sum(axis=1)


def length_bins(lengths: NDArray[np.float32]) -> NDArray[np.int64]:
    """The kind of each signed length, below N_BINS; the same shape."""
    size = np.minimum(np.abs(lengths).astype(np.int64) // _STEP, _SIZES - 1) + 1
    return np.where(lengths == 0, 0, np.where(lengths > 0, size, size + _SIZES))


@dataclass(frozen=True, slots=True)
class Description:
    """A description of flows of learned apps, in addition to a model's probabilities."""

    lengths: LengthTable
    neighbours: NearestTokens | None
    """None for models whose inputs are not tokens."""

    def features(
        self,
        probabilities: NDArray[np.float32],
        lengths: NDArray[np.float32],
        similarity: NDArray[np.float32] | None,
    ) -> NDArray[np.float64]:
        """The features of n flows, shape (n, len(FEATURES)).

        Args:
            probabilities: of the k classes, shape (n, k).
            lengths: signed payload lengths, shape (n, packets).
            similarity: of the nearest reference flow, shape (n,); None counts as 1.
        """
        p = np.maximum(np.round(probabilities.astype(np.float64), 5), _LEAST)
        n, k = p.shape
        logs = np.log(p)
        best = p.argmax(axis=1)
        two = np.sort(logs, axis=1)[:, -2:]
        found = np.zeros((n, len(FEATURES)))
        found[:, 0] = -two[:, 1]
        found[:, 1] = -(p * logs).sum(axis=1) / np.log(k)
        found[:, 2] = two[:, 0] - two[:, 1]
        found[:, 3] = logs.mean(axis=1)
        found[:, 4], found[:, 5] = self.lengths.features(lengths, best)
        if similarity is not None:
            found[:, 6] = 1 - similarity
        return found


@dataclass(frozen=True, slots=True)
class UnknownDetector:
    """Scores flows, ranks the scores, and chooses the rank above which a flow is called unknown."""

    description: Description
    weight: NDArray[np.float64]
    """Of each feature, shape (len(FEATURES),)."""
    quantiles: NDArray[np.float64]
    """Scores of held-out flows by predicted class at LEVELS, shape (k, len(LEVELS)), ascending."""
    n_held: NDArray[np.int64]
    """Held-out flows behind the quantiles of each class, shape (k,)."""
    called: NDArray[np.float64]
    """Share of held-out flows whose rank is at least each of LEVELS, descending, shape (len(LEVELS),)."""
    bias: float
    """Added to a score it gives the log odds of an unlearned app, where a twentieth of all flows have one."""
    in_context: NDArray[np.float64]
    """Probabilities of an unlearned app that held-out flows had in their clients' context, at LEVELS."""

    @property
    def packets(self) -> int:
        """Payload packets whose lengths it needs."""
        return len(self.description.lengths.rarity)

    def scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of n flows, shape (n,)."""
        return np.round(features @ self.weight, _DIGITS)

    def judge(
        self,
        probabilities: NDArray[np.float32],
        lengths: NDArray[np.float32],
        similarity: NDArray[np.float32] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How unusual n flows are.

        Returns:
            The share of held-out flows of the predicted class that look more familiar, and the probability of
            an unlearned app; both float32, shape (n,).
        """
        features = self.description.features(probabilities, lengths, similarity)
        best = np.round(probabilities.astype(np.float64), 5).argmax(axis=1)
        scores = self.scores(features)
        return rank(scores, best, self.quantiles, self.n_held), share_of(scores + self.bias)

    def ranks_in_context(self, share: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rank of probabilities of an unlearned app, in context, among those of held-out flows, (n,)."""
        below = np.searchsorted(self.in_context, np.round(share.astype(np.float64), 5), "left")
        return np.where(below > 0, LEVELS[np.maximum(below, 1) - 1], 0.0).astype(np.float32)

    def cutoff(self, rate: float) -> float:
        """The smallest rank that is called unknown; above 1 where no flow may be.

        Args:
            rate: share of flows of known apps that may be called unknown, in the mean over groups of flows like
                those that were held out.
        """
        return cutoff_of(self.called, rate)

    def to_bytes(self) -> bytes:
        """The content of its file."""
        arrays: dict[str, NDArray[Any]] = {
            "ratio": self.description.lengths.ratio,
            "rarity": self.description.lengths.rarity,
            "weight": self.weight,
            "quantiles": self.quantiles,
            "n_held": self.n_held,
            "called": self.called,
            "bias": np.array([self.bias]),
            "in_context": self.in_context,
        }
        if self.description.neighbours is not None:
            arrays |= self.description.neighbours.to_arrays()
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                part = io.BytesIO()
                np.lib.format.write_array(part, np.ascontiguousarray(array), allow_pickle=False)
                # a fixed time: twice the same training gives the same file
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue())
        return content.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, n_classes: int, place: str) -> UnknownDetector:
        """Reads and checks the result of ``to_bytes``.

        Args:
            data: the content of the file.
            n_classes: classes of the model.
            place: where it came from, for messages.

        Raises:
            ModelError: it is damaged, or made for another model.
        """
        try:
            return _checked(_read_arrays(data), n_classes)
        except _DAMAGE as error:
            raise ModelError(f"{place}: damaged, or of another model: {error}") from error


_DAMAGE: Final = (
    *(
        ArithmeticError,
        EOFError,
        LookupError,
        MemoryError,
        NotImplementedError,
        OSError,
        RuntimeError,
    ),
    *(SyntaxError, TypeError, ValueError, struct.error, zipfile.BadZipFile),
)
"""Exceptions of ``zipfile`` and NumPy for damaged content."""


def cutoff_of(called: NDArray[np.float64], rate: float) -> float:
    """The smallest of LEVELS at which at most ``rate`` of the flows were called unknown; 1.01 for none."""
    holds = called <= rate
    return float(LEVELS[int(holds.argmax())]) if holds.any() else 1.01


def share_of(log_odds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The probability of each log odds, never quite 0 or 1."""
    return (1 / (1 + np.exp(-np.clip(log_odds, -12, 12)))).astype(np.float32)


def rank(
    scores: NDArray[np.float64],
    best: NDArray[np.int64],
    quantiles: NDArray[np.float64],
    n_held: NDArray[np.int64],
) -> NDArray[np.float32]:
    """The rank of each score among held-out scores of the class ``best``, 0 to 1, shape (n,)."""
    below = (quantiles[best] < scores[:, None]).sum(axis=1)
    share = np.where(below > 0, LEVELS[np.maximum(below, 1) - 1], 0.0)
    held = n_held[best]
    return (share * held / (held + 1)).astype(np.float32)


def _read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an uncompressed archive: all together they are no larger than the file."""
    found = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > len(
            data
        ):  # parts of the file count as often as named
            raise ValueError("the archive is smaller than what is in it")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(data):
                raise ValueError(f"{entry.filename} is compressed")
            part = io.BytesIO(archive.read(entry))
            name = entry.filename.removesuffix(".npy")
            array = np.lib.format.read_array(part, allow_pickle=False)
            if array.dtype.kind not in "fiu":
                raise ValueError(f"{name} is of {array.dtype}, not of numbers")
            found[name] = array
    return found


def _checked(arrays: Mapping[str, NDArray[Any]], n_classes: int) -> UnknownDetector:
    ratio, rarity = arrays["ratio"], arrays["rarity"]
    packets = len(rarity)
    shapes = {
        "ratio": (packets, N_BINS, n_classes),
        "rarity": (packets, N_BINS),
        "weight": (len(FEATURES),),
        "quantiles": (n_classes, len(LEVELS)),
        "n_held": (n_classes,),
        "called": (len(LEVELS),),
        "bias": (1,),
        "in_context": (len(LEVELS),),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} has the shape {arrays[name].shape}, not {shape} of numbers")
    if not 1 <= packets <= N_LENGTHS or arrays["n_held"].min() < 0:
        raise ValueError("a count is out of range")
    neighbours = NearestTokens.from_arrays(arrays) if "nearest_row" in arrays else None
    return UnknownDetector(
        Description(LengthTable(ratio, rarity), neighbours),
        arrays["weight"].astype(np.float64),
        arrays["quantiles"].astype(np.float64),
        arrays["n_held"].astype(np.int64),
        arrays["called"].astype(np.float64),
        float(arrays["bias"][0]),
        arrays["in_context"].astype(np.float64),
    )
