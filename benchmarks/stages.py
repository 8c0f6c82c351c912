"""Measures what each stage costs from a file to records, and says how far more processors would carry.

    python benchmarks/stages.py CAPTURE [--rounds 5] [-o docs/reports/data]

CAPTURE is best one that ``benchmarks/flow_engine.py`` made. All stages run in one thread, one after the other
on each block, and the processor time of each is added up: reading and decoding, the flow table, names, evidence
with verdicts, and records as JSON lines.

The model: with two processors the stages up to names run beside the others; with three, reading and decoding
run beside table and names as well (``--jobs``). A million packets then take as long as the slowest group, but
never less than memory needs for the bytes that all stages move: twice those of the file (read from the page
cache, then by the table), and twice those of the decoded rows. More than three processors change nothing. The
table also says what they would if each stage that looks at flows alone (names, records) were shared by the
processors that are left, and then the flow table too, as n tables by 5-tuple. It is arithmetic on measured
costs and not a measurement.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from apptell.capture import open_capture
from apptell.flows import Assembly, FlowOptions
from apptell.flows.stages import Answers, Ended, Step, Told, assembled, decoded, named
from apptell.names import add_names
from apptell.names.dns import DnsReader
from apptell.packets.headers import HEADER
from apptell.records.forms import form_of_name
from apptell.records.known_clients import ClientNames
from apptell.records.schema import VERDICT_RECORD, verdict_records
from apptell.records.stage import RecordStage
from apptell.verdicts import choose_deciders, flows_and_verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from apptell.flows import FlowBatch

T = TypeVar("T")
READ, TABLE, NAMES, VERDICTS, RECORDS = range(5)
STAGES = ("reading and decoding", "flow table", "names", "evidence and verdicts", "records")
CORES = (1, 2, 3, 4, 8, 16, 32, 64)


class Clock:
    """Processor seconds of stages that call each other as generators."""

    def __init__(self) -> None:
        self.seconds = [0.0] * len(STAGES)

    def timed(self, stage: int, items: Iterable[T]) -> Generator[T, None, None]:
        """The same items; the time that each takes is added to a stage, without that of stages before it."""
        iterator = iter(items)
        while True:
            before, inner = time.thread_time(), sum(self.seconds)
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                spent = time.thread_time() - before
                self.seconds[stage] += spent - (sum(self.seconds) - inner)
            yield item


def run(path: Path) -> tuple[list[float], int]:
    """Seconds of each stage of one run, and packets."""
    deciders = choose_deciders()
    evidence, clients, clock = deciders.evidence, ClientNames(), Clock()
    assert evidence is not None
    options = FlowOptions(
        transports=deciders.transports,
        groups=("core", "segments", "names"),
        lists_decided=True,
        lists_order=True,
    )
    evidence.observe(None, 0)
    assembly = Assembly(options)
    dns = DnsReader(with_aliases=False)
    blocks = clock.timed(READ, decoded(open_capture(path), assembly, None, dns, clients.read))
    made = assembled(blocks, assembly.table, None, shows_open=True)
    steps = clock.timed(NAMES, named(clock.timed(TABLE, made), add_names, options))

    def ended(steps: Iterable[Step]) -> Iterator[FlowBatch]:
        for step in steps:
            match step:
                case Told(told):
                    clients.remember(told)
                case Answers(answers):
                    evidence.learn(answers)
                case Ended(flows):
                    yield flows

    form, stage = form_of_name("jsonl"), RecordStage(clients=clients)
    writer = form.writer(sys.stdout, VERDICT_RECORD)
    verdicts = clock.timed(VERDICTS, flows_and_verdicts(ended(steps), evidence=evidence))

    def written() -> Iterator[None]:
        for _, batch in verdicts:
            writer.write(stage(verdict_records(batch)))
            yield

    deque(clock.timed(RECORDS, written()), maxlen=0)
    return clock.seconds, assembly.tally.packets


def copy_rate() -> float:
    """Bytes per second that one processor reads and writes when it copies arrays larger than caches."""
    source = np.ones(1 << 29, dtype=np.uint8)
    target = np.zeros_like(source)
    best = 0.0
    for _ in range(5):
        before = time.perf_counter()
        np.copyto(target, source)
        best = max(best, 2 * len(source) / (time.perf_counter() - before))
    return best


def shared(cost: list[float], cores: int, floor: float, parts: Callable[[int], bool]) -> float:
    """Seconds where the stages ``parts`` are shared by any processors and the others by one each.

    The least time in which the whole work fits on the processors and no serial stage takes longer.
    """
    serial = [seconds for stage, seconds in enumerate(cost) if not parts(stage)]
    return max(sum(cost) / cores, max(serial), floor)


def simulated(cost: list[float], cores: int, floor: float) -> list[float]:
    """Seconds on some processors: as it is; with names and records shared; with the table shared as well."""
    if cores == 1:
        return [sum(cost)] * 3
    front = [cost[READ] + cost[TABLE] + cost[NAMES]]
    if cores > 2:
        front = [cost[READ], cost[TABLE] + cost[NAMES]]
    now = max(*front, cost[VERDICTS] + cost[RECORDS], floor)
    by_flow = shared(cost, cores, floor, lambda stage: stage in (NAMES, RECORDS))
    tables = shared(cost, cores, floor, lambda stage: stage in (TABLE, NAMES, RECORDS))
    return [now, min(now, by_flow), min(now, by_flow, tables)]


def main() -> None:
    """Measures, simulates and writes two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("capture", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, help="folder for the tables' JSON")
    given = parser.parse_args()
    run(given.capture)
    runs = [run(given.capture) for _ in range(given.rounds)]
    packets = runs[0][1]
    by_stage = zip(*(seconds for seconds, _ in runs), strict=True)
    spread = [sorted(second / packets * 1e6 for second in seconds) for seconds in by_stage]
    cost = [statistics.median(each) for each in spread]
    rate = copy_rate()
    moved = 2 * given.capture.stat().st_size / packets + 2 * HEADER.itemsize
    floor = moved * 1e6 / rate
    load = " ".join(f"{each:.0f}" for each in os.getloadavg())
    about = {
        "measured": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, load {load}, Python "
        f"{platform.python_version()}",
        "command": f"python benchmarks/stages.py CAPTURE --rounds {given.rounds}",
    }
    costs = {
        **about,
        "columns": [
            {"title": "stage", "format": "text"},
            {"title": "processor seconds per million packets (least to most)", "format": "measure"},
            {"title": "share", "format": "share"},
        ],
        "rows": [
            [name, [middle, each[0], each[-1]], middle / sum(cost)]
            for name, middle, each in zip(STAGES, cost, spread, strict=True)
        ]
        + [
            ["all", sum(cost), 1.0],
            [f"memory at {rate / 1e9:.1f} GB/s, {moved:.0f} bytes a packet", floor, None],
        ],
    }
    rows: list[list[float | str]] = []
    for cores in CORES:
        found = simulated(cost, cores, floor)
        rows.append([str(cores), *(sum(cost) / seconds for seconds in found)])
    model = {
        **about,
        "columns": [
            {"title": "processors", "format": "text"},
            {"title": "as it is", "format": "measure"},
            {"title": "names and records shared", "format": "measure"},
            {"title": "and n flow tables", "format": "measure"},
        ],
        "rows": rows,
    }
    for name, table in (("stage_costs", costs), ("stage_model", model)):
        text = json.dumps(table, indent=1) + "\n"
        print(text, file=sys.stderr)
        if given.output:
            (given.output / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
