"""Runs ONNX models within bounds of time and memory.

A model may come from a stranger. ONNX is data, but a few bytes of it can stand for any amount of work: what
cannot be bounded is refused before anything is built (``apptell.models.graph``), and nothing is computed while
a model is loaded. A run that takes longer than ``RUN_LIMIT_S`` is ended after the operator that it is at, an
allocation beyond ``MEMORY_LIMIT_BYTES`` fails, and the output must consist of probabilities.
"""

from __future__ import annotations

import math
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.errors import ModelError
from apptell.models.graph import check_graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUN_LIMIT_S: Final = 30.0
"""Seconds that one batch may take."""
MEMORY_LIMIT_BYTES: Final = 2 << 30
"""Memory that all models of this process may use together."""
_POLL_S: Final = 0.25
_TOLERANCE: Final = 1e-3
"""How far beyond 0 and 1 rounding may take a probability."""


class Port(NamedTuple):
    """An input or output of a model."""

    name: str
    shape: list[int | str | None]
    """Names and None stand for sizes that depend on what is given."""
    type: str
    """As ONNX Runtime writes it, such as ``tensor(float)``."""


class BoundedSession:
    """An ONNX Runtime session.

    Args:
        onnx_bytes: the model.
        place: where it came from, for messages.
        threads: threads that one batch may use; None for one per core.

    Raises:
        ModelError: the model does not load.
    """

    def __init__(self, onnx_bytes: bytes, place: str, threads: int | None) -> None:
        # Imported here because listing flows or reading help does not need the runtime, and loading it takes
        # time.
        import onnxruntime

        check_graph(onnx_bytes, place)
        self._place = place
        self._failures = _failures()
        self._make_run_options = onnxruntime.RunOptions
        _limit_memory()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised as well
        options.add_session_config_entry("session.use_env_allocators", "1")
        # threads that wait for the next batch would spin, and small batches cost five times the processor
        # time
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            # Constant folding would compute without bounds on time and memory. The fallback writes to standard
            # output and tries again with constant folding.
            self._session = onnxruntime.InferenceSession(
                onnx_bytes,
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["ConstantFolding"],
                enable_fallback=0,
            )
            self.inputs = [_port(each) for each in self._session.get_inputs()]
            """What it takes."""
            self.outputs = [_port(each) for each in self._session.get_outputs()]
            """What it gives."""
        except self._failures as error:
            raise ModelError(f"{place}: model.onnx does not load: {_first_line(error)}") from error

    def probabilities(self, name: str, inputs: NDArray[Any], n_apps: int) -> NDArray[np.float32]:
        """The output ``probabilities``, float32, shape (n, n_apps).

        Args:
            name: of the input.
            inputs: n inputs.
            n_apps: columns that are expected.

        Raises:
            ModelError: the run fails or takes too long, or the output is not made of probabilities.
        """
        is_alone = len(inputs) == 1 and not isinstance(self.inputs[0].shape[0], int)
        # a single row is multiplied in another order, and its last bits would depend on who came with it
        given = np.repeat(inputs, 2, axis=0) if is_alone else inputs
        options = self._make_run_options()
        begun = time.monotonic()
        _WATCHDOG.add(options, begun + RUN_LIMIT_S)
        try:
            (found,) = self._session.run(["probabilities"], {name: given}, options)
        except self._failures as error:
            if _WATCHDOG.ends_all:
                raise ModelError(f"{self._place}: the run was ended with the program") from error
            if time.monotonic() - begun >= RUN_LIMIT_S:
                raise ModelError(
                    f"{self._place}: a batch of {len(inputs)} flows took longer than {RUN_LIMIT_S:g} s"
                ) from error
            raise ModelError(
                f"{self._place}: the model cannot be run: {_first_line(error)}"
            ) from error
        finally:
            _WATCHDOG.remove(options)
        if is_alone and isinstance(found, np.ndarray) and len(found) == len(given):
            found = found[:1]
        if not isinstance(found, np.ndarray) or found.shape != (len(inputs), n_apps):
            shape = getattr(found, "shape", type(found).__name__)
            raise ModelError(
                f"{self._place}: the model returned {shape} instead of ({len(inputs)}, {n_apps})"
            )
        values = np.asarray(found, dtype=np.float32)
        # a comparison with NaN is false
        if values.size and not (values.min() >= -_TOLERANCE and values.max() <= 1 + _TOLERANCE):
            raise ModelError(f"{self._place}: the model returned values that are not probabilities")
        return values


def end_runs_by(deadline_s: float) -> None:
    """Ends all runs of models in this process at a time of the monotonic clock; for the program's end."""
    _WATCHDOG.end_by(deadline_s)


def _port(of: Any) -> Port:
    return Port(of.name, list(of.shape), of.type)


class _Watchdog:
    """Ends runs that are overdue; one thread for the process, which sleeps while nothing runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[int, tuple[float, Any]] = {}
        self._end_s = math.inf
        self._is_needed = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def ends_all(self) -> bool:
        """Whether every run is ended."""
        return time.monotonic() >= self._end_s

    def end_by(self, deadline_s: float) -> None:
        """Ends every run at that time."""
        self._end_s = deadline_s

    def add(self, options: Any, deadline_s: float) -> None:
        """Watches a run until ``remove``."""
        with self._lock:
            self._running[id(options)] = (deadline_s, options)
            if self._thread is None or not self._thread.is_alive():  # also after a fork
                self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                self._thread.start()
        if not self._is_needed.is_set():
            self._is_needed.set()

    def remove(self, options: Any) -> None:
        """Ends the watch on a run."""
        with self._lock:
            self._running.pop(id(options), None)

    def _watch(self) -> None:
        while True:
            self._is_needed.wait()
            time.sleep(_POLL_S)
            now = time.monotonic()
            with self._lock:
                if not self._running:
                    self._is_needed.clear()
                for deadline_s, options in self._running.values():
                    if now >= min(deadline_s, self._end_s):
                        options.terminate = True


_WATCHDOG: Final = _Watchdog()


@cache
def _limit_memory() -> None:
    """Creates one allocator with an upper limit for all sessions of the process."""
    import onnxruntime as ort

    info = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    as_requested = 1
    arena = ort.OrtArenaCfg(MEMORY_LIMIT_BYTES, as_requested, -1, -1)
    ort.create_and_register_allocator(info, arena)


@cache
def _failures() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    return (
        errors.Fail,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.InvalidProtobuf,
        errors.NotImplemented,
        errors.RuntimeException,
        UnicodeDecodeError,  # of a message that quotes a name of the model
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
