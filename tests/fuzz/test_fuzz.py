"""Every kind of input, spoiled a few hundred times; and that the fuzzers find what they should."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import ClassVar

import pytest

from tests.capture.crafted import good_captures
from tests.fuzz import runner
from tests.fuzz.runner import mutant, run_target
from tests.fuzz.target import Files, Target, all_targets
from tests.fuzz.targets.captures import read_packets, read_whole, talking_captures

N_MUTANTS = 300
"""Of each kind."""
TARGETS = all_targets()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_mutants_give_results_or_the_errors_meant_for_bad_input(name, tmp_path):
    target = TARGETS[name]
    n_mutants = max(N_MUTANTS, target.together)
    progress = run_target(target, n_mutants=n_mutants, seed=1, save=tmp_path)
    assert progress.counts["found"] == 0, sorted(tmp_path.iterdir())
    # Inputs that run together count as refused where one of them is.
    assert progress.counts["fine"] > 0 or target.together > 1
    assert progress.counts["refused"] > 0
    if progress.counts["slow"]:  # of this machine perhaps; a long run says it for certain
        warnings.warn(f"{progress.counts['slow']} mutants of {name} were slow", stacklevel=1)


@pytest.mark.slow
def test_the_compiled_kernels_stay_within_bounds_on_mutants(tmp_path, bounds_checked):
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.fuzz", "--target", "captures", "--mutants", "3000"]
    done = subprocess.run(
        [*command, "--save", str(tmp_path / "finds")],
        cwd=root,
        env=bounds_checked,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_good_capture_is_read():
    assert all(read_packets(data) for data in good_captures().values())


def test_every_talking_capture_gives_flows():
    flows = {name: read_whole(data) for name, data in talking_captures().items()}
    assert min(flows[name] for name in ("tls", "http", "smtp", "quic", "dtls", "fragments")) > 0


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_mutant_depends_on_seed_and_number_alone(name):
    target, seeds = TARGETS[name], TARGETS[name].seeds()
    first = [mutant(target, seeds, 3, number) for number in range(20)]
    assert [mutant(target, seeds, 3, number) for number in range(19, -1, -1)] == first[::-1]
    assert [mutant(target, seeds, 4, number) for number in range(20)] != first


class Toy(Target):
    """Fails on a byte, is refused on another and slow on a third."""

    name: ClassVar[str] = "toy"
    together: ClassVar[int] = 4
    refusals: ClassVar[tuple[type[Exception], ...]] = (ValueError,)

    def seeds(self) -> dict[str, Files]:
        return {"one": {"in": b"."}}

    def mutate(self, files: Files, rng) -> Files:
        return {"in": rng.choice((b".", b".", b"f", b"r", b"s"))}

    def run(self, inputs, scratch):
        for files in inputs:
            if files["in"] == b"f":
                raise IndexError("a find")
            begin = time.process_time()
            while files["in"] == b"s" and time.process_time() - begin < runner.LONGEST_S * 1.1:
                pass
        if {"in": b"r"} in inputs:
            raise ValueError("refused")


def test_finds_are_counted_and_saved_and_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "LONGEST_S", 0.1)
    expected = [mutant(Toy(), Toy().seeds(), 5, number)[1]["in"] for number in range(12)]
    run_target(Toy(), n_mutants=6, seed=5, save=tmp_path)
    progress = run_target(Toy(), n_mutants=12, seed=5, save=tmp_path)
    assert progress.next == 12
    assert progress.counts["found"] == expected.count(b"f") > 0
    assert progress.counts["slow"] == expected.count(b"s") > 0
    finds = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(finds) == expected.count(b"f") + expected.count(b"s")
    assert any(b"a find" in (path / "said.txt").read_bytes() for path in finds)
    assert run_target(Toy(), n_mutants=12, seed=5, save=tmp_path).counts == progress.counts
