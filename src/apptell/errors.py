"""The few exceptions of apptell: what can go wrong, in one line each.

Every message names its place (``home.pcapng: block length 7 is not a multiple of 4 at byte 4096``).
A fault of the user's input is one of these; anything else that is raised is a defect of ours.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class ApptellError(Exception):
    """The base of every error that apptell raises on purpose."""

    exit_code = 1


class CaptureError(ApptellError):
    """A capture cannot be read, or cannot be read any further.

    Whoever iterates a capture gets everything before the damage first.
    """


class LabelError(ApptellError):
    """A source of ground truth cannot be read or does not fit its capture."""


class CatalogueError(ApptellError):
    """A table of the catalogue or a list to import cannot be read, or one of its rows is wrong."""


class DatasetError(ApptellError):
    """A dataset is missing, of another version, damaged or too small for what is asked."""


class ModelError(ApptellError):
    """A model folder is missing, of another version or damaged, or does not fit its input."""


class OutputError(ApptellError):
    """A result cannot be written where it was asked for."""


class UsageError(ApptellError):
    """The caller asked for something that does not exist or does not go together."""

    exit_code = 2


class MissingError(ApptellError):
    """Something that is needed is not installed or not permitted; the message says how to get it."""

    exit_code = 3


@contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Answers a library that is not installed with the command that installs it.

    Args:
        extra: the extra of apptell that brings the library: ``train``, ``kafka``, ``pandas``.
        what: what needs it, as the subject of a sentence.

    Raises:
        MissingError: the block imports a library that is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "apptell":
            raise
        raise MissingError(
            f"{what} needs {error.name}, which is not installed: pip install 'apptell[{extra}]'"
        ) from error
