"""Captures whose file name is the app's: ``<group>/<app>.pcap[ng][.gz|.xz|...]``.

The file's name in lower case is the label; the folders between the one that was named and the file are the
group ``source``. A folder ``name=value`` is the group ``name``. Two underscores end the app's name:
``app__run3.pcap`` is a run of ``app``. This format is used if nothing else names the apps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from apptell.labels.format import Candidate, LabelFormat
from apptell.labels.labelled_capture import LabelledCapture
from apptell.labels.labellers import ConstantLabeller

if TYPE_CHECKING:
    from collections.abc import Iterator


class Folders(LabelFormat):
    """A capture, all of whose flows are those of the app that its file is named after."""

    name: ClassVar[str] = "folders"
    files: ClassVar[str] = "captures that are named after their app: SOURCE/APP.pcap"

    def detect(self, candidate: Candidate) -> bool:
        """Whether it is a capture."""
        return candidate.is_capture

    def read(self, candidate: Candidate) -> Iterator[LabelledCapture]:
        """The capture, every flow labelled alike."""
        if candidate.is_capture:
            app, groups = candidate.named
            labeller = ConstantLabeller(candidate.options.rename.get(app, app), self.name)
            yield LabelledCapture(
                candidate.name, candidate.path, labeller, candidate.reader, groups
            )
