"""Runs a trained model on flows with ONNX Runtime; no training framework is imported."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from apptell.encoding import complete_options, encoding_of
from apptell.encoding.lengths import lengths
from apptell.errors import ModelError, UsageError
from apptell.flows.plain_columns import to_list
from apptell.flows.schema import DECISION_SEGMENTS, FlowBatch
from apptell.models.model_folder import (
    ROWS_FILE,
    TRANSPORTS,
    hash_of,
    read_forest,
    read_model,
    read_rows,
    read_unknown,
)
from apptell.models.new_stacks import NewStacks
from apptell.models.session import BoundedSession
from apptell.models.temperature import NO_FLOOR, calibrate
from apptell.models.training_rows import TrainingRows
from apptell.models.unknown_detector import UnknownDetector
from apptell.models.weights import Weights, read_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DEFAULT_MODEL: Final = Path(__file__).parent / "default"
"""The model that ships in the package."""
MANY_CUT: Final = 0.01
"""Share of segments cut by a snap length from which on a capture, or what a model learned from, is cut."""
BATCH_FLOWS: Final = 64
"""Flows that are encoded and run at once; with more, the network needs more memory and is not faster."""


class Predictions(NamedTuple):
    """What a model says of n flows."""

    probabilities: NDArray[np.float32]
    """Of each app, shape (n, k)."""
    p_unknown: NDArray[np.float32]
    """How unusual each flow is: share of held-out flows of its likeliest app that look more familiar, (n,)."""
    unknown_share: NDArray[np.float32]
    """Probability that each flow is of an unlearned app, where a twentieth of all flows are, shape (n,)."""


class Model:
    """A trained model, ready to run. Use ``load_model`` to get one from a folder.

    Example:
        >>> model = apptell.load_model("model/")
        >>> model.name, model.apps
        ('paper-rf', ['signal', 'zoom'])
    """

    def __init__(
        self,
        info: dict[str, Any],
        onnx_bytes: bytes,
        *,
        place: str,
        threads: int | None = None,
        unknown: bytes | None = None,
        forest: bytes | None = None,
    ) -> None:
        """Checks that the network fits ``info``.

        Args:
            info: the checked content of ``model.json``.
            onnx_bytes: the checked content of ``model.onnx``.
            place: where both came from, for messages.
            threads: threads that one batch may use; None for one per core, but a single one for statistics,
                whose models take less time than passing a batch to other threads.
            unknown: the checked content of ``unknown.npz``, where there is one.
            forest: the checked content of ``lengths.onnx``, where there is one.

        Raises:
            ModelError: the network does not load or run, or does not fit its inputs or its apps.
        """
        self.info = info
        """The content of ``model.json``."""
        self._place = place
        try:
            self._encoding = encoding_of(info["inputs"])
            self._options = complete_options(info["inputs"], info["options"])
        except UsageError as error:
            raise ModelError(f"{place}: {error}") from error
        if info["encoding"] != self._encoding.version:
            raise ModelError(
                f"{place}: made for version {info['encoding']} of the inputs {info['inputs']!r}, "
                f"this version of apptell makes version {self._encoding.version}"
            )
        if threads is None and info["inputs"] == "statistics":
            threads = 1
        self._session = BoundedSession(onnx_bytes, place, threads)
        self._check_shapes(place)
        self._feed = self._session.inputs[0].name
        self._try_out()
        self.unknown: UnknownDetector | None = None
        """Recognises flows of apps that the model did not learn; None where it was trained without."""
        if unknown is not None:
            self.unknown = UnknownDetector.from_bytes(unknown, len(self.apps), place)
        self._new_stacks: NewStacks | None = None
        if "new_stacks" in info:
            self._new_stacks = NewStacks(info["new_stacks"], forest, len(self.apps), place)

    def __repr__(self) -> str:
        return f"<Model {self.name}@{self.hash} of {len(self.apps)} apps>"

    @property
    def name(self) -> str:
        """What kind of model it is, such as ``paper-cnn``."""
        return str(self.info["name"])

    @property
    def apps(self) -> list[str]:
        """The apps it knows, lower case, sorted: the columns of its probabilities."""
        return list(self.info["apps"])

    @property
    def threshold(self) -> float | None:
        """The confidence below which it declines; None if the caller must choose one."""
        threshold = self.info["threshold"]
        return None if threshold is None else float(threshold)

    @property
    def prior(self) -> NDArray[np.float64]:
        """How common each app is by the model's probabilities, shape (k,), sum 1.

        It is ``prior`` in ``model.json``; otherwise the share of each app in the training flows, with one
        flow more of each, or equal for all if these are not known.
        """
        prior = self.info.get("prior")
        known = prior or self.info["data"].get("per_app") or {}
        alike = 1.0 if prior is None else 0.0
        counts = np.array([known.get(app, 0) + alike for app in self.apps], dtype=np.float64)
        return np.asarray(counts / counts.sum())

    @property
    def transports(self) -> tuple[int, ...]:
        """IP protocol numbers of the flows it learned from; only TCP if ``model.json`` does not say."""
        learned = self.info.get("learned", {}).get("transports", ["tcp"])
        return tuple(TRANSPORTS[name] for name in learned)

    @property
    def cut_share(self) -> float | None:
        """Share of the payload segments it learned from that a snap length had cut.

        None where it reads no payload, or ``model.json`` does not say.
        """
        share: float | None = self.info.get("learned", {}).get("cut_share")
        return share

    @property
    def needs_whole_packets(self) -> bool:
        """Whether it reads payload and learned from packets that were not cut: it does not decide cut flows."""
        share = self.cut_share
        return self._encoding.reads_payload and share is not None and share <= MANY_CUT

    @property
    def held_out(self) -> dict[str, dict[str, float]]:
        """What verdicts on held-out flows of each app were like: shares by name, and ``flows``.

        Raises:
            UsageError: the model was trained without it.
        """
        self.require_unknown()
        found: dict[str, dict[str, float]] = self.info["unknown"].get("apps", {})
        return found

    @cached_property
    def known_ja4(self) -> pa.Array | None:
        """TLS fingerprints of the flows it learned from; None where there were none, or none were kept."""
        ja4 = self.info.get("learned", {}).get("ja4")
        return pa.array(ja4, pa.string()) if ja4 else None

    @cached_property
    def _known_stacks(self) -> frozenset[str]:
        return frozenset(self.info.get("learned", {}).get("ja4") or ())

    @property
    def decision_packets(self) -> int:
        """Payload packets that it uses: its verdict is due when so many have arrived."""
        return int(self._options.get("packets", DECISION_SEGMENTS))

    @property
    def hash(self) -> str:
        """Eight hexadecimal digits that change with anything a verdict depends on."""
        return hash_of(self.info)

    def encode(self, flows: FlowBatch) -> NDArray[Any]:
        """Encodes flows as inputs of the model, shape (n, ...)."""
        return self._encoding.encode(flows, self._options)

    @property
    def options(self) -> dict[str, Any]:
        """Every option of its inputs."""
        return dict(self._options)

    def read_weights(self) -> Weights:
        """The constants and operators of the network, read from the model's folder once more.

        Raises:
            ModelError: the model was not loaded from a folder, or its folder was changed since.
        """
        info, onnx_bytes = read_model(self._place)
        if info["onnx_sha256"] != self.info.get("onnx_sha256"):
            raise ModelError(f"{self._place}: another model is there since this one was loaded")
        return read_weights(onnx_bytes, self._place)

    def kept_rows(self) -> TrainingRows | None:
        """What the model learned from, read from its folder; None where it was trained without keeping rows.

        Raises:
            ModelError: the file is missing or damaged, or holds rows of another model.
        """
        content = read_rows(self._place, self.info)
        if content is None:
            return None
        place = Path(self._place) / ROWS_FILE
        rows = TrainingRows.from_bytes(content, str(place))
        if (
            rows.encoded.inputs != self.info["inputs"]
            or dict(rows.encoded.options) != self._options
        ):
            raise ModelError(f"{place}: rows of other inputs than the model's")
        if sorted(set(rows.apps.tolist())) != self.apps:
            raise ModelError(f"{place}: rows of other apps than the model's")
        return rows

    def predict_proba(self, flows: FlowBatch, *, early: bool = False) -> NDArray[np.float32]:
        """The probability of each app for each flow.

        Args:
            flows: flows with the groups ``core`` and ``segments``.
            early: the flows are open and have one to four payload packets; calibrated for that, where the
                model knows how.

        Returns:
            float32, shape (n, k), columns as in ``apps``; each row sums to 1.

        Raises:
            DatasetError: a column that the model needs is missing.
            ModelError: the network fails, takes too long, or returns something else than probabilities.
        """
        parts = [self._run(self.encode(part)) for part in _in_parts(flows)]
        found = np.concatenate([np.zeros((0, len(self.apps)), dtype=np.float32), *parts])
        found = self._calibrate(found, flows.payload_packets if early else None)
        return self._by_stack(flows, found, early=early)

    def predict_with_unknown(self, flows: FlowBatch) -> Predictions:
        """The probability of each app for each flow, and how unusual each flow is for its likeliest app.

        Args:
            flows: flows with the groups ``core`` and ``segments``, whose verdict is due.

        Raises:
            UsageError: the model was trained without recognising unlearned apps (``require_unknown``).
            DatasetError: a column that the model needs is missing.
            ModelError: as of ``predict_proba``.
        """
        detector = self.require_unknown()
        neighbours = detector.description.neighbours
        found = [np.zeros((0, len(self.apps)), dtype=np.float32)]
        similarity = [np.zeros(0, dtype=np.float32)]
        for part in _in_parts(flows):
            inputs = self.encode(part)
            found.append(self._run(inputs))
            if neighbours is not None:
                similarity.append(neighbours.similarity(inputs))
        probabilities = self._calibrate(np.concatenate(found))
        ranks, share = detector.judge(
            probabilities,
            lengths(flows, packets=detector.packets),
            None if neighbours is None else np.concatenate(similarity),
        )
        return Predictions(self._by_stack(flows, probabilities, early=False), ranks, share)

    def require_unknown(self) -> UnknownDetector:
        """What recognises flows of unlearned apps.

        Raises:
            UsageError: the model was trained without it.
        """
        if self.unknown is None:
            raise UsageError(
                f"the model {self.name}@{self.hash} cannot recognise unknown apps: "
                "train it again to recognise them",
                argument="recognises_unknown",
            )
        return self.unknown

    def predict_inputs(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """The probability of each app for inputs that ``encode`` gave, float32, shape (n, k)."""
        return self._calibrate(self._run(inputs))

    def is_new_stack(self, flows: FlowBatch) -> NDArray[np.bool_]:
        """Which flows have a JA4 that none of the flows had that it learned from, shape (n,)."""
        known, n = self._known_stacks, len(flows)
        if not known or not flows.has("ja4"):
            return np.zeros(n, dtype=bool)
        stacks = to_list(flows.plain("ja4"), n)
        return np.array([each is not None and each not in known for each in stacks], dtype=bool)

    def _by_stack(
        self, flows: FlowBatch, probabilities: NDArray[np.float32], *, early: bool
    ) -> NDArray[np.float32]:
        """The probabilities, those of flows of new stacks by what held on devices that were left out."""
        if self._new_stacks is None:
            return probabilities
        return self._new_stacks.decide(flows, probabilities, self.is_new_stack(flows), early=early)

    def _run(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        return self._session.probabilities(self._feed, inputs, len(self.apps))

    def _try_out(self) -> None:
        """Runs the network once, so that one that cannot be run is refused when it is loaded."""
        shape = (2, *self._encoding.shape(self._options))
        self._run(np.zeros(shape, dtype=self._encoding.dtype))

    def _calibrate(
        self, probabilities: NDArray[np.float32], seen: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Temperature scaling; ``seen`` are the payload packets of flows that are decided early."""
        calibration = self.info["calibration"]
        if calibration is None:
            return probabilities
        temperature: float | NDArray[np.float64] = calibration["temperature"]
        early = calibration.get("early")
        if seen is not None and early is not None:
            by_packets = np.array(early, dtype=np.float64)
            temperature = by_packets[np.clip(seen, 1, len(by_packets)) - 1][:, None]
        elif temperature == 1:
            return probabilities
        return calibrate(probabilities, temperature, calibration.get("floor", NO_FLOOR))

    def _check_shapes(self, place: str) -> None:
        inputs, outputs = self._session.inputs, self._session.outputs
        wanted = list(self._encoding.shape(self._options))
        if len(inputs) != 1 or inputs[0].shape[1:] != wanted:
            raise ModelError(
                f"{place}: the network takes {[each.shape for each in inputs]}, "
                f"the inputs {self._encoding.name!r} are (n, {', '.join(map(str, wanted))})"
            )
        kind = _ONNX_TYPES[self._encoding.dtype]
        if inputs[0].type != kind:
            raise ModelError(f"{place}: the network takes {inputs[0].type}, not {kind}")
        found = [each.shape for each in outputs if each.name == "probabilities"]
        if not found or found[0][1:] != [len(self.apps)]:
            raise ModelError(
                f"{place}: the network gives {[(each.name, each.shape) for each in outputs]}, "
                f"not probabilities of {len(self.apps)} apps"
            )


def _in_parts(flows: FlowBatch) -> Iterator[FlowBatch]:
    """The flows in parts of at most ``BATCH_FLOWS``."""
    if len(flows) <= BATCH_FLOWS:
        if len(flows):
            yield flows
        return
    batch = flows.to_arrow()
    for start in range(0, len(flows), BATCH_FLOWS):
        yield FlowBatch.trusted(batch.slice(start, BATCH_FLOWS))


_ONNX_TYPES: Final[dict[type[np.generic], str]] = {
    np.uint8: "tensor(uint8)",
    np.uint16: "tensor(uint16)",
    np.float32: "tensor(float)",
}


def load_model(path: str | Path | None = None, *, threads: int | None = None) -> Model:
    """Loads a model folder.

    Args:
        path: the folder; None for the model that ships in the package.
        threads: threads that one batch may use; None for one per core.

    Raises:
        ModelError: a file is missing, of another version or damaged, or does not fit the others.

    Example:
        >>> apptell.load_model().name
        'fast'
    """
    path = DEFAULT_MODEL if path is None else Path(path)
    info, onnx_bytes = read_model(path)
    return Model(
        info,
        onnx_bytes,
        place=str(path),
        threads=threads,
        unknown=read_unknown(path, info),
        forest=read_forest(path, info),
    )
