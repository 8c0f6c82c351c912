"""Runs the stages of reading in a process of their own, which sends their steps to the caller's.

Half of the work from packets to named flows is done by kernels and half by the interpreter, and so is what
follows. Threads of one process share one interpreter, so two of them are hardly faster than one. The cut is
where least is passed on: finished flows and DNS answers, as Arrow IPC, and not packets. The process is a fork:
it starts within milliseconds and inherits what the caller has imported, opened and compiled.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import sys
import traceback
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from apptell.errors import CaptureError
from apptell.flows.ahead import Ahead
from apptell.flows.schema import FlowBatch
from apptell.flows.stages import Answers, Ended, Opened

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from multiprocessing.connection import Connection

    from apptell.flows.stages import Step

CAN_FORK: Final = sys.platform == "linux"
"""Elsewhere a fork is not safe once system libraries have started threads."""
_PIPE_BYTES: Final = 1 << 20
_FINAL, _FAILED = "final", "failed"
_NOTHING: Final[Any] = None
"""In place of what is sent as Arrow IPC behind a step."""


class Apart:
    """The steps of a generator that runs in another process.

    Iterating raises what the generator raised, behind the steps before it; its traceback there is a note of the
    exception.
    """

    def __init__(self, steps: Generator[Step, None, None]) -> None:
        context = multiprocessing.get_context("fork")
        self._ours, theirs = context.Pipe(duplex=False)
        import fcntl  # not on every system; where there is a fork to use, there is this

        with contextlib.suppress(OSError):  # more than one user may have
            fcntl.fcntl(theirs.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._process = context.Process(
            target=_work, args=(steps, self._ours, theirs), name="apptell flows", daemon=True
        )
        # The process inherits that it gets no interrupt from the keyboard: the caller decides what one means.
        allowed = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with warnings.catch_warnings():  # of threads: they are idle ones of libraries
                warnings.simplefilter("ignore", DeprecationWarning)
                self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, allowed)
            theirs.close()

    def __iter__(self) -> Iterator[Step]:
        while True:
            try:
                kind, step = pickle.loads(self._ours.recv_bytes())
                if isinstance(step, Answers):
                    step = Answers(_batch(self._ours.recv_bytes()))
                elif isinstance(step, Ended | Opened):
                    flows = FlowBatch.trusted(_batch(self._ours.recv_bytes()))
                    step = replace(step, flows=flows)
            except (EOFError, OSError):
                raise CaptureError("the reading process ended unexpectedly") from None
            if kind == _FAILED:
                raise step
            if kind == _FINAL:
                return
            yield step

    def stop(self) -> None:
        """Ends the process; may be called repeatedly."""
        self._ours.close()
        self._process.terminate()

    def join(self) -> None:
        """Waits for its end."""
        self._process.join()


def _work(steps: Generator[Step, None, None], unused: Connection, out: Connection) -> None:
    """The process: sends the steps, then what was raised or the end."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    unused.close()
    made = Ahead(steps, "flows")
    try:
        for step in made:
            _send(step, out)
        last: tuple[str, Any] = (_FINAL, None)
    except BrokenPipeError:  # nobody wants more
        return
    except Exception as error:  # noqa: BLE001 - it is raised again by the caller's process
        error.add_note(traceback.format_exc())
        last = (_FAILED, error)
    with contextlib.suppress(BrokenPipeError):
        out.send_bytes(pickle.dumps(last))


def _send(step: Step, out: Connection) -> None:
    batch: pa.RecordBatch | None = None
    match step:
        case Answers(answers):
            batch, step = answers, Answers(_NOTHING)
        case Ended(flows) | Opened(flows):
            batch, step = flows.to_arrow(), replace(step, flows=_NOTHING)
    out.send_bytes(pickle.dumps(("", step)))
    if batch is not None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        out.send_bytes(sink.getvalue())


def _batch(data: bytes) -> pa.RecordBatch:
    return pa.ipc.open_stream(data).read_next_batch()
