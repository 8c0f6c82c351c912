"""Follows the version of a model that a registry says is in use, without a restart.

A thread looks at the files ``current`` and ``challenger`` about once a second. A version that cannot be loaded
is reported once, and the model stays as it is.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

from apptell.errors import ApptellError
from apptell.service.shadow import Shadow

if TYPE_CHECKING:
    from collections.abc import Callable

    from apptell.models.model_shelf import ModelShelf
    from apptell.service.live_pipeline import LivePipeline

POLL_S: Final = 1.0
_END_S: Final = 0.5
"""How long the end waits for a version that is being loaded."""


class ModelFollower:
    """Replaces a pipeline's model when another version is promoted; a context manager.

    Args:
        shelf: the versions.
        version: the one that the pipeline runs.
        pipeline: where models are replaced.
        notify: called with a sentence about each change.
        poll_s: how often to look, s.
    """

    def __init__(
        self,
        shelf: ModelShelf,
        version: str,
        pipeline: LivePipeline,
        notify: Callable[[str], None],
        poll_s: float = POLL_S,
    ) -> None:
        self._shelf, self._pipeline, self._notify = shelf, pipeline, notify
        self._poll_s = poll_s
        self._version: str | None = version
        self._challenger: str | None = None
        self._shadow: Shadow | None = None
        self._said = ""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._run, name="registry", daemon=True)

    def __enter__(self) -> Self:
        self.look()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.thread.join(_END_S)
        self._end_challenge(_END_S)

    def look(self) -> None:
        """Looks at the registry now."""
        with self._lock:
            try:
                self._follow_current()
                self._follow_challenger()
            except ApptellError as error:
                self._say(f"The registry is not followed: {error}")

    def _run(self) -> None:
        while not self._stop.wait(self._poll_s):
            self.look()

    def _follow_current(self) -> None:
        version = self._shelf.current
        if version is None or version == self._version:
            return
        model = self._shelf.load(version)
        self._pipeline.replace_model(model)
        self._version = version
        self._say(f"The model is now {model.name}@{model.hash}, version {version}.")

    def _follow_challenger(self) -> None:
        version = self._shelf.challenger
        if version == self._version:
            version = None
        if version == self._challenger:
            return
        shadow = None if version is None else Shadow(self._shelf.load(version))
        self._end_challenge()
        self._pipeline.shadow(shadow)
        self._challenger, self._shadow = version, shadow
        if shadow is not None:
            self._say(f"The challenger {shadow.name}, version {version}, runs in the shadow.")

    def _end_challenge(self, timeout_s: float = 5.0) -> None:
        """Ends the comparison that runs, and says how it went."""
        shadow, self._shadow = self._shadow, None
        if shadow is not None:
            shadow.close(timeout_s)
            self._pipeline.shadow(None)
            self._say(shadow.counts.sentence())

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            self._notify(sentence)
