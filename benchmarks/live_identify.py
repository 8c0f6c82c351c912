"""Measures flows identified per second and core as a sensor does it, by batch size and threads.

    python benchmarks/live_identify.py [-m MODEL ...] [--openvino-python PYTHON]

Flows of the embedded samples at their fifth payload packet; the model that ships, ``fusion`` and the paper's
models. OpenVINO is compared with ONNX Runtime. "model" is only encoding and network or forest, the limit;
"records" is all that ``apptell live`` does until an output has the records of verdict and end; "json" is
their rendering besides. Flows a second of processor time, so that other work disturbs less, and of the clock.
PYTHON has onnxruntime-openvino.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apptell.flows import FlowBatch, FlowOptions
from apptell.flows.schema import CORE
from apptell.models import DEFAULT_MODEL, load_model, write_model
from apptell.names import read_flows
from apptell.records.forms.jsonl import json_lines
from apptell.service.decisions import Decisions
from apptell.service.work import DECIDED, ENDED, Work

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = Path(__file__).parents[1] / "src/apptell/samples"
BATCHES = (1, 8, 64, 256)
REPEATS = 3
OPENVINO = """
import json, sys, time
import numpy as np, onnxruntime
data, inputs, want = open(sys.argv[1], "rb").read(), np.load(sys.argv[2]), np.load(sys.argv[3])
found = {}
openvino = {"device_type": "CPU", "num_of_threads": "1"}
for name, more in (("CPUExecutionProvider", {}), ("OpenVINOExecutionProvider", openvino)):
    if name not in onnxruntime.get_available_providers():
        continue
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(data, options, providers=[name], provider_options=[more])
    feed = session.get_inputs()[0].name
    for n in (8, 64):
        parts = [inputs[at:at + n] for at in range(0, len(inputs) - n + 1, n)][:8]
        run = lambda: [session.run(["probabilities"], {feed: part})[0] for part in parts]
        got = np.concatenate(run())
        best = 1e9
        for _ in range(3):
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            best = min(best, time.process_time() - cpu)
        found[f"{session.get_providers()[0]}, batch {n}"] = {
            "flows/s of processor": round(len(got) / best),
            "largest difference": float(np.abs(got - want[:len(got)]).max())}
print(json.dumps(found))
"""


def cnn(folder: Path) -> Path:
    """The paper's network with random weights: speed does not depend on them."""
    import torch

    from apptell.learning.convolutional import PaperNetwork
    from apptell.learning.export import network_to_onnx

    torch.manual_seed(0)
    apps = ["a", "b", "c", "d", "e", "f"]
    info = {
        "name": "paper-cnn",
        "apps": apps,
        "inputs": "image",
        "encoding": 1,
        "options": {},
        "threshold": None,
        "calibration": None,
        "data": {},
        "seed": 0,
        "metrics": {},
        "versions": {},
        "created": "2026-01-01T00:00:00Z",
    }
    write_model(folder, network_to_onnx(PaperNetwork(len(apps)).eval()), info, "Random weights.")
    return folder


def trained(name: str, folder: Path, dataset: Path) -> Path:
    """A model of that name, trained for one pass: speed does not depend on how well."""
    command = [sys.executable, "-m", "apptell.cli", "train", str(dataset), "-o", str(folder)]
    subprocess.run([*command, "-m", name, "--epochs", "1"], check=True, capture_output=True)
    return folder


def rate(work: Callable[[FlowBatch], object], batches: list[FlowBatch]) -> dict[str, int]:
    """Flows a second, of processor time and of the clock, the best of some repeats."""
    n = sum(map(len, batches))
    work(batches[0])
    cpu, wall = [], []
    for _ in range(REPEATS):
        began_cpu, began = time.process_time(), time.perf_counter()
        for batch in batches:
            work(batch)
        cpu.append(time.process_time() - began_cpu)
        wall.append(time.perf_counter() - began)
    return {"flows/s of processor": round(n / min(cpu)), "flows/s": round(n / min(wall))}


def measure(folder: Path, flows: FlowBatch) -> dict[str, Any]:
    """All figures of one model."""
    table: dict[str, Any] = {}
    for threads in (1, 2):
        model = load_model(folder, threads=threads)

        def records(batch: FlowBatch, model: Any = model) -> list[Any]:
            # names of a flow that was returned with its hello are not returned again at its end
            over = FlowBatch(batch.to_arrow().select(list(CORE)))
            works = [
                Work(flows, kind, is_overloaded=False, since_s=0.0)
                for flows, kind in ((batch, DECIDED), (over, ENDED))
            ]
            decisions = Decisions(model)
            return [record for work in works for record in decisions.records([work])]

        def json_too(batch: FlowBatch) -> list[list[str]]:
            return [json_lines(each) for each in records(batch)]

        for n in BATCHES:
            arrow = flows.to_arrow()
            starts = range(0, min(len(flows) - n + 1, max(n, 64)), n)
            batches = [FlowBatch(arrow.slice(at, n)) for at in starts]
            row = {"model": rate(model.predict_proba, batches)}
            if threads == 1:
                row |= {"records": rate(records, batches), "json": rate(json_too, batches)}
            table[f"{threads} thread(s), batch {n}"] = row
    return table


def openvino(python: str, folder: Path, flows: FlowBatch, out: Path) -> dict[str, Any]:
    """The bare network or forest on both, in the other interpreter."""
    model = load_model(folder, threads=1)
    inputs = np.concatenate(
        [
            model.encode(FlowBatch(flows.to_arrow().slice(at, 64)))
            for at in range(0, len(flows) - 63, 64)
        ]
    )
    np.save(out / "inputs.npy", inputs)
    np.save(out / "want.npy", model.predict_inputs(inputs))
    command = [
        python,
        "-c",
        OPENVINO,
        str(folder / "model.onnx"),
        str(out / "inputs.npy"),
        str(out / "want.npy"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", type=Path, action="append", default=[])
    parser.add_argument("--openvino-python")
    options = parser.parse_args()
    read = FlowOptions(groups=("core", "segments", "names"))
    flows = FlowBatch.concat(list(read_flows(SAMPLES, read)))
    flows = flows.filter(flows.payload_packets >= 5)
    report: dict[str, Any] = {"flows": len(flows)}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        dataset = out / "dataset"
        command = [sys.executable, "-m", "apptell.cli", "dataset", "build", str(SAMPLES)]
        command += ["--labels", "folders", "-o", str(dataset)]
        subprocess.run(command, check=True, capture_output=True)
        made = [trained(name, out / name, dataset) for name in ("fusion", "paper-rf")]
        for folder in (DEFAULT_MODEL, *made, cnn(out / "cnn"), *options.model):
            name = load_model(folder).name
            report[name] = measure(folder, flows)
            if options.openvino_python:
                report[name]["providers"] = openvino(options.openvino_python, folder, flows, out)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
