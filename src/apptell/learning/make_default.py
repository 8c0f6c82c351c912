"""Trains the model that ships in the package from the embedded samples.

``python -m apptell.learning.make_default [FOLDER]`` trains the linear model on tokens on every sample
and writes it. The model is fast, and as accurate as the fusion on these samples. The same samples, libraries
and seed give the same file. Its card gives the accuracy on recordings that it was not trained on: each
recording is left out once. The predictions of those models on flows with one to four payload packets give the
temperatures of early verdicts.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.errors import DatasetError
from apptell.flows import FlowBatch
from apptell.flows.early import read_early
from apptell.learning.model_training import MIN_PAYLOAD_PACKETS, train_model
from apptell.learning.task import Task
from apptell.models import DEFAULT_MODEL, Model
from apptell.names import add_names, read_flows
from apptell.verdicts import fit_temperature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apptell.learning.registry import Trainable

MODEL: Final = "fast"
SAMPLES: Final = Path(__file__).parents[1] / "samples"
MAX_BYTES: Final = 5_000_000
"""Maximum size of the model in the package."""


def recorded_captures(folder: Path = SAMPLES) -> list[Path]:
    """The captures of one app each, in folders that hold a ``recording.json``; in order of path."""
    recordings = sorted(path.parent for path in folder.glob("*/recording.json"))
    return [path for recording in recordings for path in sorted(recording.glob("*.pcap.xz"))]


def read_samples(
    folder: Path = SAMPLES,
) -> tuple[FlowBatch, NDArray[np.str_], NDArray[np.str_]]:
    """The flows of ``<recording>/<app>.pcap.xz``, their apps and their recordings.

    Raises:
        DatasetError: there are no samples.
        CaptureError: one is damaged.
    """
    batches, apps, recordings = [], [], []
    for path in recorded_captures(folder):
        flows = read_flows(path).to_flows()
        flows = flows.filter(flows.payload_packets >= MIN_PAYLOAD_PACKETS)
        batches.append(flows)
        apps += [path.name.removesuffix(".pcap.xz")] * len(flows)
        recordings += [path.parent.name] * len(flows)
    if not batches:
        raise DatasetError(f"{folder}: there are no samples")
    return FlowBatch.concat(batches), np.array(apps), np.array(recordings)


def make_default(out: Path = DEFAULT_MODEL, samples: Path = SAMPLES, seed: int = 0) -> Model:
    """Trains and writes the default model.

    Raises:
        DatasetError: there are no samples, or the model is too large to ship.
    """
    flows, apps, recordings = read_samples(samples)
    task = Task(MODEL, seed=seed)
    inputs = task.encode(flows, views=True)
    without, right = {}, 0
    for recording in np.unique(recordings).tolist():
        held = recordings == recording
        learner = task.learner()
        learner.fit(inputs[~held], apps[~held], groups=recordings[~held])
        found = learner.classes_[learner.predict_proba(inputs[held]).argmax(axis=1)]
        right += int((found == apps[held]).sum())
        without[recording] = learner
    model = train_model(
        flows,
        apps.tolist(),
        model=MODEL,
        seed=seed,
        out=out,
        replace=True,
        extra_info={
            "data": {"samples": sorted(set(recordings.tolist()))},
            "metrics": {"accuracy, each recording left out once": round(right / len(apps), 3)},
            "calibration": {
                "temperature": 1.0,
                "early": early_temperatures(samples, task, without),
            },
        },
    )
    size = (out / "model.onnx").stat().st_size
    if size > MAX_BYTES:
        raise DatasetError(f"{out}: the model has {size} bytes, more than {MAX_BYTES}")
    return model


def early_temperatures(samples: Path, task: Task, without: dict[str, Trainable]) -> list[float]:
    """Temperature of verdicts after one, two, three and four payload packets.

    Args:
        samples: folder of ``<recording>/<app>.pcap.xz``.
        task: how its flows become inputs.
        without: for each recording a model that saw no flow of it.
    """
    found: dict[int, list[NDArray[np.float32]]] = {}
    truths: dict[int, list[int]] = {}
    for path in recorded_captures(samples):
        learner = without[path.parent.name]
        truth = learner.classes_.tolist().index(path.name.removesuffix(".pcap.xz"))
        for n, flows in read_early(path, add_names=add_names)[0].items():
            if len(flows):
                probabilities = learner.predict_proba(task.encode(flows))
                found.setdefault(n, []).append(probabilities.astype(np.float32))
                truths.setdefault(n, []).extend([truth] * len(flows))
    return [
        round(fit_temperature(np.concatenate(found[n]), np.array(truths[n])), 3)
        for n in sorted(found)
    ]


if __name__ == "__main__":
    made = make_default(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_MODEL)
    print(f"{made!r}: {made.info['metrics']}")
