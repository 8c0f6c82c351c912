"""Opens outputs from ``FORM:PLACE``, each with its own queue and thread.

The form (``apptell.records.forms``) determines how a record is written, and the transport where it goes; each
module here is a transport. Every form with one line for each record can use every transport:

    jsonl:FILE              JSON lines in a file
    kafka:HOST:PORT/TOPIC   a transport without a form carries JSON lines
    eve:kafka:HOST:PORT/TOPIC
    opensearch:http://HOST:9200/INDEX   its form is ECS unless another one is named
    ipfix:HOST                          it has its own encoding
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from apptell.errors import UsageError
from apptell.files import readable
from apptell.records.forms import LineForm, RawCsv, form_names, form_of_name
from apptell.records.schema import LIVE_RECORD
from apptell.service.outputs.file import open_file
from apptell.service.outputs.folder import open_folder
from apptell.service.outputs.http_batches import (
    open_http,
    open_https,
    open_loki,
    open_opensearch,
)
from apptell.service.outputs.ipfix import open_ipfix
from apptell.service.outputs.kafka import open_kafka
from apptell.service.outputs.mqtt import open_mqtt, open_mqtts
from apptell.service.outputs.queued import Output, QueuedOutput
from apptell.service.outputs.syslog import open_syslog
from apptell.service.outputs.unix import open_unix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TRANSPORTS: Final[dict[str, Callable[[str, LineForm], Output]]] = {
    "http": open_http,
    "https": open_https,
    "ipfix": open_ipfix,
    "kafka": open_kafka,
    "loki": open_loki,
    "mqtt": open_mqtt,
    "mqtts": open_mqtts,
    "opensearch": open_opensearch,
    "syslog": open_syslog,
    "unix": open_unix,
}
"""The function that opens each transport, given its place and a form; any other place is a file."""
DEFAULT_FORM: Final = "jsonl"
"""The form of a transport if none is named."""
_OTHER_FORMS: Final = {"opensearch": "ecs"}
"""Transports with another one."""
_WITH_HEADER: Final = ("unix",)
"""Transports whose lines may begin with a header; the others have independent messages."""
_OWN_ENCODING: Final = ("ipfix",)
"""Transports that no form fits."""

__all__ = ["TRANSPORTS", "Output", "QueuedOutput", "open_outputs"]


def open_outputs(
    wanted: Sequence[str], *, is_lossless: bool, raw_csv: bool = False
) -> list[QueuedOutput]:
    """Opens outputs.

    Args:
        wanted: each ``FORM:PLACE``, such as ``jsonl:verdicts.jsonl``, ``jsonl:-`` or
            ``kafka:localhost:9092/apps``.
        is_lossless: whether records wait for a slow output instead of being dropped when its queue is full.
        raw_csv: whether CSV is for programs and not for spreadsheets.

    Raises:
        UsageError: there is no such form, or the place does not fit it.
        OutputError: it cannot be opened.
        MissingError: it needs something that is not installed.
    """
    chosen = [(text, _opener(text, raw_csv=raw_csv)) for text in wanted]
    return [
        QueuedOutput(_without_passwords(text), opener(), is_lossless=is_lossless)
        for text, opener in chosen
    ]


def _without_passwords(text: str) -> str:
    """An output's name, which is shown in notes and metrics."""
    return re.sub(r"(?<=//)[^/@]*@", "", text)


def _opener(text: str, *, raw_csv: bool) -> Callable[[], Output]:
    """The function that opens an output.

    Raises:
        UsageError: there is no such form, or it does not fit the place.
        MissingError: the package that has the form cannot be loaded.
    """
    name, colon, place = text.partition(":")
    if colon and name in TRANSPORTS:
        name, place = _OTHER_FORMS.get(name, DEFAULT_FORM), text
    elif place.partition(":")[0] in _OWN_ENCODING:
        raise UsageError(f"output {text!r}: {place.partition(':')[0]} has its own encoding")
    names = [*form_names(), *TRANSPORTS]
    if not colon or name not in names or name == "table":
        names.remove("table")
        raise UsageError(f"output {text!r} is not FORM:PLACE with FORM one of {', '.join(names)}")
    form = RawCsv() if raw_csv and name == "csv" else form_of_name(name)
    transport, colon, rest = place.partition(":")
    if not isinstance(form, LineForm):
        if colon and transport in TRANSPORTS:
            raise UsageError(
                f"output {text!r}: {name} can be written only to files, not to {transport}"
            )
        return lambda: open_folder(place, form)
    if not colon or transport not in TRANSPORTS:
        return lambda: open_file(place, form)
    if readable(rest) != rest and transport != "unix":
        raise UsageError(f"output {text!r}: the place is not text")
    if transport not in _WITH_HEADER and form.header(LIVE_RECORD):
        raise UsageError(
            f"output {text!r}: {name} needs a header, which messages of {transport} cannot have"
        )
    return lambda: TRANSPORTS[transport](rest, form)
