"""The exceptions of apptell; each message is one line.

Every message names its place (``home.pcapng: block length 7 is not a multiple of 4 at byte 4096``).
A fault in the user's input raises one of these; any other exception is a bug in apptell.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class ApptellError(Exception):
    """The base of every error that apptell raises on purpose.

    Example:
        >>> try:
        ...     apptell.load_model("nowhere/")
        ... except apptell.ApptellError as error:
        ...     print(type(error).__name__, error.exit_code)
        ModelError 1
    """

    exit_code = 1

    def __init__(self, *args: object, argument: str | None = None) -> None:
        super().__init__(*args)
        self.argument = argument
        """Name of an argument that would help; the command line adds the option for it to the message."""


class CaptureError(ApptellError):
    """A capture cannot be read, or cannot be read any further.

    Iterating a capture yields everything before the damage first.

    Example:
        >>> apptell.read_flows("nowhere.pcap")
        Traceback (most recent call last):
        apptell.errors.CaptureError: nowhere.pcap: No such file or directory
    """


class LabelError(ApptellError):
    """A source of ground truth cannot be read or does not fit its capture.

    Example:
        >>> apptell.Dataset.build("captures/", "other/", labels="nudt")
        Traceback (most recent call last):
        apptell.errors.LabelError: ...
    """


class CatalogueError(ApptellError):
    """A table of the catalogue or a list to import cannot be read, or one of its rows is wrong.

    Example:
        >>> apptell.identify("phone.pcap", catalogue=["nowhere.csv"])
        Traceback (most recent call last):
        apptell.errors.CatalogueError: ...
    """


class DatasetError(ApptellError):
    """A dataset is missing, of another version, damaged or too small for the request.

    Example:
        >>> apptell.Dataset.open("nowhere/")
        Traceback (most recent call last):
        apptell.errors.DatasetError: nowhere: no such dataset
    """


class ModelError(ApptellError):
    """A model folder is missing, of another version or damaged, or does not fit its input.

    Example:
        >>> apptell.load_model("nowhere/")
        Traceback (most recent call last):
        apptell.errors.ModelError: nowhere: no such model folder
    """


class OutputError(ApptellError):
    """A result cannot be written to the requested place.

    Example:
        >>> apptell.train("dataset/", "paper-rf", out="model/")
        Traceback (most recent call last):
        apptell.errors.OutputError: model: already holds a model; choose another folder or replace it
    """


class UsageError(ApptellError):
    """An argument is not known, is out of range, or does not fit the others.

    Example:
        >>> apptell.identify("phone.pcap", threshold=2)
        Traceback (most recent call last):
        apptell.errors.UsageError: threshold 2 is not between 0 and 1
    """

    exit_code = 2


class MissingError(ApptellError):
    """Something that is needed is not installed or not permitted; the message says how to get it.

    Example:
        >>> issubclass(apptell.MissingError, apptell.ApptellError), apptell.MissingError.exit_code
        (True, 3)
    """

    exit_code = 3


@contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Reports a missing library with the command that installs it.

    Args:
        extra: the extra of apptell that brings the library: ``train``, ``kafka``, ``pandas``.
        what: what needs it, as the subject of a sentence.

    Raises:
        MissingError: the block imports a library that is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "apptell").partition(".")[0]
        if library == "apptell":
            raise
        raise MissingError(
            f"{what} needs {library}, which is not installed: pip install 'apptell[{extra}]'"
        ) from error
