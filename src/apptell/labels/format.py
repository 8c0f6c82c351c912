"""Base classes of label formats: a format recognises its kind of ground truth and reads labelled flows.

Every kind of ground truth is one class: ``detect`` tells whether it names the apps of a candidate, and
    ``read`` returns the candidate's flows with their labels. ``labels/formats`` has those of apptell; another
    distribution
adds its own by an entry point of the group ``apptell.label_formats``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from apptell.capture import open_capture
from apptell.errors import CaptureError, LabelError
from apptell.files import readable
from apptell.labels.file_names import app_and_groups, is_capture_name
from apptell.labels.labelled_capture import LabelledCapture
from apptell.labels.labellers import JoinLabeller
from apptell.labels.log_files import LogFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from apptell.capture.batch import Owner, PacketBatch
    from apptell.dataset.reading import LabelledSource
    from apptell.labels.labelled_capture import LabelledFlowReader
    from apptell.labels.log import Lines
    from apptell.labels.options import LabelOptions
    from apptell.labels.text_files import TextFile

CAPTURE_FILES: Final = "captures (.pcap, .pcapng and others, compressed or not)"
"""What most formats read, for messages."""
_FIRST_PACKETS: Final = 4096
"""Packets that are examined to detect owners in a capture."""


@dataclass
class Candidate:
    """A file or folder that may hold labelled flows, with what lies beside it."""

    path: Path
    root: Path
    """The file or folder that the user named: the candidate, or a folder above it."""
    reader: LabelledFlowReader
    """Reads a capture's flows."""
    options: LabelOptions
    logs: Sequence[TextFile] = field(default=())
    """Label logs for a capture: those the user named, else those with its name, else all in its folder."""
    has_named_logs: bool = False
    """Whether the user named its label logs."""

    @property
    def name(self) -> str:
        """The name in messages: its path below the folder that the user named."""
        name = self.path.relative_to(self.root) if self.path != self.root else self.path.name
        return readable(name)

    @cached_property
    def is_capture(self) -> bool:
        """Whether its name is that of a capture, or the user named it and it is a capture."""
        if not self.path.is_file():
            return False
        if is_capture_name(self.path):
            return True
        return self.path == self.root and self.first_packets is not None

    @cached_property
    def first_packets(self) -> PacketBatch | None:
        """The first packets of a capture; None if there are none, or if it is not a capture."""
        try:
            with open_capture(self.path, batch_packets=_FIRST_PACKETS) as packets:
                batch = next(iter(packets), None)
                return batch.copy() if batch is not None and len(batch) else None
        except CaptureError:
            return None  # the reader of its flows raises the error

    @cached_property
    def first_owners(self) -> list[Owner]:
        """The owners that the capture's own metadata names among its first packets."""
        batch = self.first_packets
        if batch is None:
            return []
        return [batch.owners[number] for number in np.unique(batch.owner) if number >= 0]

    @cached_property
    def named(self) -> tuple[str, dict[str, str]]:
        """The app in the file's name, and the groups from its name, its folders and the user.

        Raises:
            LabelError: the user's pattern does not match the name.
        """
        app, groups = app_and_groups(self.path, self.root, self.options.pattern)
        return app, {**groups, **self.options.groups}

    @property
    def recorded_groups(self) -> dict[str, str]:
        """The groups of a capture whose labels do not come from its name: the file is a separate session."""
        return {"session": self.name, **self.named[1]}


class LabelFormat(ABC):
    """One kind of ground truth. A subclass has no state, or is a frozen dataclass: sources are pickled."""

    name: ClassVar[str]
    """The name that users pass, such as ``networklog``."""
    files: ClassVar[str] = CAPTURE_FILES
    """The files that it reads, in words that follow "come from"; for messages."""

    @abstractmethod
    def detect(self, candidate: Candidate) -> bool:
        """Whether this format names the apps of a candidate; examines only names and beginnings of files."""

    def survey(self, candidates: Sequence[Candidate]) -> LabelFormat:  # noqa: ARG002
        """The format to read candidates with, after a look at all of them; itself where it needs none.

        It is called where the user asked for this format, before the first candidate is read.
        """
        return self

    @abstractmethod
    def read(self, candidate: Candidate) -> Iterator[LabelledSource]:
        """The candidate's sources of labelled flows. If the user chose the format, ``detect`` is not called.

        Raises:
            LabelError: the candidate has no ground truth of this format.
        """


class LogFormat(LabelFormat):
    """Ground truth in a log beside a capture that says which app used which connection, and when."""

    is_start: ClassVar[bool | None] = False
    """Whether a line is written once, when its connection begins; None detects it from the lines."""

    @abstractmethod
    def is_log(self, log: TextFile, options: LabelOptions) -> bool:
        """Whether a text file is such a log; examines only its beginning."""

    @abstractmethod
    def read_log(self, path: Path, lines: Lines, options: LabelOptions) -> None:
        """Adds the lines of a log; one that is not of the format is counted by ``lines.pass_over``.

        Raises:
            LabelError: the log cannot be read, or is of another format.
        """

    def is_zone_known(self, log: TextFile, options: LabelOptions) -> bool:  # noqa: ARG002
        """Whether the times of a log are in a known zone."""
        return True

    def logs_of(self, candidate: Candidate) -> tuple[Path, ...]:
        """The logs of this format for a candidate."""
        return tuple(log.path for log in candidate.logs if self.is_log(log, candidate.options))

    def detect(self, candidate: Candidate) -> bool:
        """Whether the candidate is a capture with such a log."""
        return candidate.is_capture and bool(self.logs_of(candidate))

    def read(self, candidate: Candidate) -> Iterator[LabelledCapture]:
        """The capture, its flows joined to the lines of all its logs of this format."""
        if not candidate.is_capture:
            return
        logs = self.logs_of(candidate)
        if not logs:
            raise LabelError(f"{candidate.name}: there is no {self.name} log beside it")
        yield self.joined(candidate, logs, candidate.recorded_groups)

    def joined(
        self, candidate: Candidate, logs: tuple[Path, ...], groups: Mapping[str, str]
    ) -> LabelledCapture:
        """A capture whose flows are joined to the lines of some logs."""
        files = LogFiles(self, logs, candidate.options, every=candidate.has_named_logs)
        labeller = JoinLabeller(files, candidate.options.tolerance_s)
        return LabelledCapture(
            candidate.name, candidate.path, labeller, candidate.reader, groups, logs
        )
