"""Times questions to a history of made-up records.

    .venv/bin/python -m benchmarks.history --records 50000000 --folder /tmp/records --json out.json

Half of the records are verdicts, half are ends: 50 million records are 25 million flows, spread over 30 days,
1,000 clients and 200 apps. The folder is written once and kept; it needs about 40 bytes a record.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apptell.history.questions import Question
from apptell.history.record_history import RecordHistory
from apptell.history.upkeep import MERGED_ORDER, ROW_GROUP_RECORDS
from apptell.records.schema import END, LIVE_RECORD, VERDICT

START_NS = 1_790_000_000_000_000_000
DAYS = 30
FILE_RECORDS = 1_000_000
HOUR_NS = 3_600_000_000_000


def made_up(rng: np.random.Generator, n: int, start_ns: int, end_ns: int) -> pa.Table:
    """Records of n/2 flows that begin in a range of time, in the order of a merged file."""
    flows = n // 2
    begin = np.sort(rng.integers(start_ns, end_ns, flows))
    app = np.minimum(rng.zipf(1.3, flows), 200)
    client = rng.integers(0, 1000, flows)
    server = np.minimum(rng.zipf(1.2, flows), 20_000)
    size = (rng.lognormal(8, 2, flows)).astype(np.int64) + 200
    named = rng.random(flows) < 0.7

    def text(form: str, numbers: Any, valid: Any = None) -> pa.Array:
        values, at = np.unique(numbers, return_inverse=True)
        words = pa.array([form.format(int(value)) for value in values])
        index = pa.array(at.astype(np.int32), mask=None if valid is None else ~valid)
        return pa.DictionaryArray.from_arrays(index, words)

    columns: dict[str, Any] = {
        "time": pa.array(begin).cast(pa.timestamp("ns", tz="UTC")),
        "community_id": pa.array([f"1:{value:027x}=" for value in rng.integers(0, 1 << 62, flows)]),
        "protocol": text("{}", rng.integers(0, 2, flows)),
        "client_address": text("10.0.{}.7", client),
        "client_port": pa.array(rng.integers(1024, 65535, flows), pa.uint16()),
        "server_address": text("203.0.{}.9", server),
        "server_port": pa.array(np.full(flows, 443), pa.uint16()),
        "app": text("app-{}", app, named),
        "app_name": text("App {}", app, named),
        "category": text("category-{}", app % 15, named),
        "service": text("service-{}", app % 40, ~named),
        "evidence": text("evidence-{}", rng.integers(0, 5, flows), named),
        "confidence": pa.array(np.round(rng.random(flows), 6)),
        "payload_packets_seen": pa.array(np.full(flows, 5), pa.int32()),
        "model": text("fast@{}", np.zeros(flows, np.int64)),
        "outcome": text("outcome-{}", np.where(named, 0, rng.integers(1, 6, flows))),
        "server_name": text("host-{}.example", server, rng.random(flows) < 0.8),
        "ja4": text("t13d1516h2_{}", app % 30),
        "capture": text("wlan{}", np.zeros(flows, np.int64)),
        "connection_id": pa.array(rng.integers(0, 1 << 62, flows), pa.uint64()),
        "part": pa.array(np.zeros(flows), pa.int32()),
        "revised": pa.array(np.zeros(flows, bool)),
    }
    tables = []
    for event, share, seconds in ((VERDICT, 0.1, 1), (END, 1.0, 40)):
        own: dict[str, Any] = {
            "event": pa.array([event] * flows),
            "end_time": pa.array(begin + seconds * 10**9).cast(pa.timestamp("ns", tz="UTC")),
            "packets_to_server": pa.array((size * share).astype(np.int64) // 900 + 1),
            "packets_to_client": pa.array((size * share).astype(np.int64) // 700 + 1),
            "bytes_to_server": pa.array((size * share).astype(np.int64) // 8),
            "bytes_to_client": pa.array((size * share).astype(np.int64)),
            "end_reason": pa.array(["fin" if event == END else None] * flows, pa.string()),
        }
        arrays = [
            {**columns, **own}.get(field.name, pa.nulls(flows, field.type)).cast(field.type)
            for field in LIVE_RECORD
        ]
        tables.append(pa.Table.from_arrays(arrays, schema=LIVE_RECORD))
    return pa.concat_tables(tables).sort_by(list(MERGED_ORDER))


def write(folder: Path, n_records: int) -> None:
    """Writes the files that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    n_files = max(n_records // FILE_RECORDS, 1)
    step = DAYS * 24 * HOUR_NS // n_files
    for i in range(n_files):
        path = folder / f"apptell-{i:06d}.parquet"
        if path.exists():
            continue
        table = made_up(
            np.random.default_rng(i), min(FILE_RECORDS, n_records), START_NS + i * step,
            START_NS + (i + 1) * step,
        )  # fmt: skip
        part = path.with_suffix(".tmp")
        pq.write_table(table, part, compression="zstd", row_group_size=ROW_GROUP_RECORDS)
        part.rename(path)


def questions() -> dict[str, Any]:
    """Name to the call that is timed."""
    day = Question(from_ns=START_NS + 20 * 24 * HOUR_NS, to_ns=START_NS + 21 * 24 * HOUR_NS)
    one_app = Question(filters={"app": ["app-17"]})
    one_client = Question(filters={"client": ["10.0.17.7"]})
    return {
        "overview of the month by app": lambda h: h.overview(Question(), "app"),
        "overview of the month by category": lambda h: h.overview(Question(), "category"),
        "overview of the month by client": lambda h: h.overview(Question(), "client"),
        "overview of the month by server": lambda h: h.overview(Question(), "server"),
        "overview of the month, one app, by client": lambda h: h.overview(one_app, "client"),
        "overview of the month, one app, by app": lambda h: h.overview(one_app, "app"),
        "overview of the month, one client, by app": lambda h: h.overview(one_client, "app"),
        "overview of a day by server": lambda h: h.overview(day, "server"),
        "overview of a day by app": lambda h: h.overview(day, "app"),
        "newest 50 flows of the month": lambda h: h.flows(Question()),
        "largest 50 flows of a day": lambda h: h.flows(day, sort="bytes"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=50_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    write(given.folder, given.records)
    history = RecordHistory(given.folder, limit_s=600, threads=given.threads)
    status, _ = history.status()
    before = time.perf_counter()
    made = history.make_sums()
    summed_s = time.perf_counter() - before
    print(f"sums of {made} files made in {summed_s:.1f} s", flush=True)
    results = {}
    for name, ask in questions().items():
        taken, used = [], []
        for _ in range(given.times):
            before, before_cpu = time.perf_counter(), time.process_time()
            ask(history)
            taken.append(time.perf_counter() - before)
            used.append(time.process_time() - before_cpu)
        results[name] = {
            "median_s": round(statistics.median(taken), 3),
            "worst_s": round(max(taken), 3),
            "median_cpu_s": round(statistics.median(used), 3),
        }
        print(f"{name}: {results[name]}", flush=True)
    if given.json:
        report = {
            "records": status["records"], "bytes": status["bytes"], "files": status["files"],
            "threads": given.threads, "cores": os.cpu_count(), "machine": platform.machine(),
            "times": given.times, "questions": results,
        }  # fmt: skip
        given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
