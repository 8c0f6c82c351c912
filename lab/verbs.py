"""The lab's verbs: write recordings, samples and datasets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from lab import apps, phone, plan, samples
from lab.recording import Recorder

if TYPE_CHECKING:
    import argparse


def record(options: argparse.Namespace) -> int:
    """One recording."""
    names = options.apps.split(",") if options.apps else [*apps.APPS, "other"]
    settings = plan.quick(names, options)
    print(json.dumps(Recorder(settings, options.output, options.beside).run(), indent=1))
    return 0


def sample(options: argparse.Namespace) -> int:
    """The embedded samples, and the capture in PCAPdroid's form."""
    recordings = plan.sample(options.seed)
    quotas = {**dict.fromkeys(apps.APPS, plan.SAMPLE_FLOWS), "other": plan.SAMPLE_OTHER}
    for settings in recordings:
        folder = options.work / settings.recording
        begun = time.monotonic()
        if not (folder / "recording.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            Recorder(settings, folder).run()
        target = options.output / settings.recording
        counts = samples.cut(folder, target, quotas, settings.seed)
        size = sum(file.stat().st_size for file in target.iterdir())
        print(
            f"{settings.recording}: {counts}, {size} bytes, {time.monotonic() - begun:.0f} s",
            file=sys.stderr,
        )
    tapped = next(s.recording for s in recordings if s.network.tap == "gateway" and s.network.nat)
    n_flows, n_packets = phone.make(options.work / tapped, options.output / "pcapdroid")
    print(f"pcapdroid: {n_flows} connections, {n_packets} packets", file=sys.stderr)
    for stale in {path.parent for path in options.output.glob("*/recording.json")}:
        if stale.name not in {settings.recording for settings in recordings}:
            shutil.rmtree(stale)
    if not options.keep:
        shutil.rmtree(options.work)
    return 0


def dataset(options: argparse.Namespace) -> int:
    """The dataset, recording by recording; what is there already is kept."""
    recordings = plan.dataset(
        options.flows,
        options.seed,
        drift=options.drift,
        new_apps=options.new_app,
        workers=options.workers,
        per_recording=options.per_recording,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    # whole recordings alone are in the dataset's folder, so it can be built from at any time
    partial = options.output.with_name(f"{options.output.name}.partial")
    (options.output / "labels.csv").write_text(plan.labels())
    total = sum(sum(settings.quotas.values()) for settings in recordings)
    done = made = failed = 0
    begun = time.monotonic()
    for number, settings in enumerate(recordings, 1):
        folder = options.output / settings.place
        if (folder / "recording.json").exists():
            done += sum(json.loads((folder / "recording.json").read_text())["flows"].values())
            continue
        for stale in (options.output, partial):
            shutil.rmtree(stale / settings.recording, ignore_errors=True)
        try:
            counts = Recorder(settings, partial / settings.place).run()["flows"]
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            failed += 1
            print(f"{settings.recording}: {error}", file=sys.stderr)
            continue
        (partial / settings.recording).rename(options.output / settings.recording)
        done, made = done + sum(counts.values()), made + sum(counts.values())
        rate = made / (time.monotonic() - begun)
        left = max(0, total - done) / rate
        print(
            f"{number}/{len(recordings)} {settings.recording}: {counts}; "
            f"{done}/{total} flows, {rate:.1f}/s, {left / 60:.0f} min left",
            file=sys.stderr,
        )
    return 1 if failed else 0
