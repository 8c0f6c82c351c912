"""Measures what names, DNS answers and addresses add to the processor time of identification.

    python benchmarks/evidence_cost.py CAPTURE... [--rounds 7]

Reads the captures as one stream, TCP and UDP with names, and writes a record of each flow with payload as JSON
lines, as ``identify`` does, in turn:

* ``names``: nothing decides;
* ``evidence``: names, DNS answers, addresses and ranges;
* ``model``: the embedded model on the transport protocols that it learned;
* ``both``: evidence, and the model about the flows that no name decides.

Prints one JSON object: the median processor seconds of each, and the median over the rounds of the ratio within
a round, with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from typing import TYPE_CHECKING

from apptell.catalogue import Catalogue
from apptell.flows import FlowOptions
from apptell.models import load_model
from apptell.names import read_flows
from apptell.records.forms.jsonl import json_lines
from apptell.records.schema import verdict_records
from apptell.verdicts import Evidence, identify_flows
from apptell.verdicts.decide import decide_without_model

if TYPE_CHECKING:
    from apptell.models import Model
    from apptell.verdicts import VerdictBatch

OPTIONS = FlowOptions(transports=(6, 17), groups=("core", "segments", "names"))


def written(verdicts: VerdictBatch) -> int:
    """Makes the lines of some verdicts; how many."""
    return sum(1 for _ in json_lines(verdict_records(verdicts)))


def names_alone(captures: list[str]) -> int:
    """Records of all flows with payload; how many."""
    n = 0
    with read_flows(captures, OPTIONS) as flows:
        for batch in flows:
            found = decide_without_model(batch.filter(batch.payload_packets >= 1), None)
            n += written(found)
    return n


def identified(captures: list[str], catalogue: Catalogue | None, model: Model | None) -> int:
    """Records of the flows that evidence, a model or both decide."""
    n, evidence = 0, None if catalogue is None else Evidence(catalogue)
    with read_flows(captures, OPTIONS, observer=evidence) as flows:
        for batch in identify_flows(flows, model, evidence=evidence):
            n += written(batch)
    return n


def ratios(ours: list[float], base: list[float]) -> dict[str, float]:
    """Median, smallest and largest ratio of two ways, round by round."""
    each = sorted(a / b for a, b in zip(ours, base, strict=True))
    return {
        "median": round(statistics.median(each), 3),
        "smallest": round(each[0], 3),
        "largest": round(each[-1], 3),
    }


def main() -> None:
    """Runs the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captures", nargs="+")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    catalogue, model, captures = Catalogue.load(), load_model(), options.captures
    gc.collect()
    gc.freeze()  # as ``apptell identify`` does with what it has loaded
    ways = {
        "names": lambda: names_alone(captures),
        "evidence": lambda: identified(captures, catalogue, None),
        "model": lambda: identified(captures, None, model),
        "both": lambda: identified(captures, catalogue, model),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    flows: dict[str, int] = {}
    for _ in range(options.rounds + 1):
        for name, way in ways.items():
            began = time.process_time()
            flows[name] = way()
            times[name].append(time.process_time() - began)
    kept = {name: each[1:] for name, each in times.items()}  # the first round compiles
    seconds = {name: statistics.median(each) for name, each in kept.items()}
    report = {
        "flows": flows,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "evidence_to_names": ratios(kept["evidence"], kept["names"]),
        "both_to_model": ratios(kept["both"], kept["model"]),
        "evidence_us_a_flow": round(
            (seconds["evidence"] - seconds["names"]) / flows["evidence"] * 1e6, 2
        ),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
