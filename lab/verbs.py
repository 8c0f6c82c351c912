"""Parsed options in; recordings, samples and datasets on disk out."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time

from lab import apps, plan, samples
from lab.recording import Recorder


def record(options: argparse.Namespace) -> int:
    """One recording."""
    names = options.apps.split(",") if options.apps else [*apps.APPS, "other"]
    settings = plan.quick(names, options.flows, options.front, options.tls, options.seed)
    print(json.dumps(Recorder(settings, options.output).run(), indent=1))
    return 0


def sample(options: argparse.Namespace) -> int:
    """The embedded samples."""
    for settings in plan.sample(options.seed):
        folder = options.work / settings.recording
        begun = time.monotonic()
        if not (folder / "recording.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            Recorder(settings, folder).run()
        quotas = {**dict.fromkeys(apps.APPS, plan.SAMPLE_FLOWS), "other": plan.SAMPLE_OTHER}
        target = options.output / settings.recording
        counts = samples.cut(folder, target, quotas, settings.seed)
        size = sum(file.stat().st_size for file in target.iterdir())
        print(f"{settings.recording}: {counts}, {size} bytes, {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return 0
