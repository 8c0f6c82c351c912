"""Trains the models of a comparison on Ray, a training to a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apptell.cluster.ray_run import LOCAL, RETRIES, connected
from apptell.errors import ApptellError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from apptell.experiments.trial_cache import Trial, TrialResult


@dataclass(frozen=True, slots=True)
class RayTrainer:
    """Trains on the cores of a Ray cluster, one core to a training.

    The machine that compares sends the inputs and keeps the results in its own cache, so workers need no shared
    storage. A training whose worker or node is lost is repeated.
    """

    address: str = LOCAL
    """``local``, ``auto`` for the cluster that this machine belongs to, or ``HOST:PORT`` of one."""
    notify: Callable[[str], None] = lambda _: None
    """Called with a line after each training."""

    def __call__(self, trials: Iterator[Trial], cache: Path) -> None:
        """Keeps the results of trials that are not in the cache yet.

        Raises:
            UsageError: there is no cluster at the address.
            MissingError: Ray or the training libraries are not installed.
            DatasetError: a training side has only one app.
            ApptellError: another error of a trial.
        """
        with connected(self.address, "training on a cluster") as ray:
            task = ray.remote(num_cpus=1, max_retries=RETRIES)(_run)
            running: dict[Any, Trial] = {}
            seen: set[str] = set()
            for trial in trials:
                trial.check()
                name = trial.name
                if name in seen or trial.kept(cache) is not None:
                    continue
                seen.add(name)
                # Each trial that waits has its inputs in memory.
                while len(running) > max(int(ray.cluster_resources().get("CPU", 1)), 1):
                    self._take(ray, running, cache)
                running[task.remote(trial)] = trial
            while running:
                self._take(ray, running, cache)

    def _take(self, ray: Any, running: dict[Any, Trial], cache: Path) -> None:
        """Waits for a training, and keeps its result."""
        ready, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
        for reference in ready:
            trial = running.pop(reference)
            try:
                result: TrialResult | ApptellError = ray.get(reference)
            except ray.exceptions.RayTaskError:
                raise  # a defect: its traceback says more than a line
            except ray.exceptions.RayError as lost:
                first = str(lost).strip().partition("\n")[0]
                raise ApptellError(
                    f"the worker of a training was lost {RETRIES + 1} times: {first}"
                ) from None
            if isinstance(result, ApptellError):
                raise result
            trial.keep(cache, result)
            seconds = result.train_s
            self.notify(f"{trial.task.model}, seed {trial.task.seed}: trained in {seconds:.1f} s")


def _run(trial: Trial) -> TrialResult | ApptellError:
    """The task: the result, or what went wrong. Only a lost worker is repeated."""
    try:
        return trial.run()
    except ApptellError as error:
        return error
