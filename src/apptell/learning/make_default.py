"""The embedded samples in, the model that ships in the package out.

``python -m apptell.learning.make_default [FOLDER]`` trains the forest without ports on every sample
and writes it. Twice the same samples, libraries and seed give the same file. Its card tells how well
it does on recordings that it was not trained on: each recording is left out once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from apptell.encoding import statistics
from apptell.errors import DatasetError
from apptell.flows import FlowBatch, read_flows
from apptell.learning.forest import StatisticsForest
from apptell.learning.train import MIN_PAYLOAD_PACKETS, train_model
from apptell.models import DEFAULT_MODEL, Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES: Final = Path(__file__).parents[1] / "samples"
MAX_BYTES: Final = 5_000_000
"""What the package can carry."""


def read_samples(
    folder: Path = SAMPLES,
) -> tuple[FlowBatch, NDArray[np.str_], NDArray[np.str_]]:
    """The flows of ``<recording>/<app>.pcap.xz``, their apps and their recordings.

    Raises:
        DatasetError: there are no samples.
        CaptureError: one is damaged.
    """
    batches, apps, recordings = [], [], []
    for path in sorted(folder.glob("*/*.pcap.xz")):
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
    held_out = _leave_each_out(statistics(flows, ports=False), apps, recordings, seed)
    model = train_model(
        flows,
        apps.tolist(),
        model="paper-rf",
        ports=False,
        seed=seed,
        out=out,
        extra_info={
            "data": {"samples": sorted(set(recordings.tolist()))},
            "metrics": {"accuracy, each recording left out once": round(held_out, 3)},
        },
    )
    size = (out / "model.onnx").stat().st_size
    if size > MAX_BYTES:
        raise DatasetError(f"{out}: the model has {size} bytes, more than {MAX_BYTES}")
    return model


def _leave_each_out(
    features: NDArray[np.float32],
    apps: NDArray[np.str_],
    recordings: NDArray[np.str_],
    seed: int,
) -> float:
    """Accuracy over all flows, each identified by a forest that saw no flow of its recording."""
    right = 0
    for recording in np.unique(recordings):
        out = recordings == recording
        forest = StatisticsForest(random_state=seed).fit(features[~out], apps[~out])
        right += int((forest.predict(features[out]) == apps[out]).sum())
    return right / len(apps)


if __name__ == "__main__":
    made = make_default(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_MODEL)
    print(f"{made!r}: {made.info['metrics']}")
