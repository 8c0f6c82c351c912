"""``FORM:PLACE`` in, an output with its own queue and thread out; one module for each form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apptell.errors import UsageError
from apptell.service.outputs.ecs import open_ecs
from apptell.service.outputs.eve import open_eve
from apptell.service.outputs.kafka import open_kafka
from apptell.service.outputs.lines import open_csv, open_json_lines
from apptell.service.outputs.parquet import open_parquet
from apptell.service.outputs.queued import Output, QueuedOutput
from apptell.service.outputs.syslog import open_syslog
from apptell.service.outputs.unix import open_unix
from apptell.service.outputs.zeek import open_zeek, open_zeek_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FORMS: Final[dict[str, Callable[[str], Output]]] = {
    "jsonl": open_json_lines,
    "csv": open_csv,
    "parquet": open_parquet,
    "eve": open_eve,
    "zeek": open_zeek,
    "zeek-json": open_zeek_json,
    "ecs": open_ecs,
    "kafka": open_kafka,
    "syslog": open_syslog,
    "unix": open_unix,
}
"""What opens each form; its argument is what follows the colon."""

__all__ = ["FORMS", "Output", "QueuedOutput", "open_outputs"]


def open_outputs(wanted: Sequence[str], *, is_lossless: bool) -> list[QueuedOutput]:
    """Opens outputs.

    Args:
        wanted: each ``FORM:PLACE``, such as ``jsonl:verdicts.jsonl``, ``jsonl:-`` or
            ``kafka:localhost:9092/apps``.
        is_lossless: whether records wait for a slow output instead of being dropped when its queue is full.

    Raises:
        UsageError: no such form, or a place that does not fit it.
        OutputError: it cannot be opened.
        MissingError: it needs something that is not installed.
    """
    chosen = []
    for text in wanted:
        form, colon, place = text.partition(":")
        if form not in FORMS or not colon:
            raise UsageError(
                f"output {text!r} is not FORM:PLACE with FORM one of {', '.join(FORMS)}"
            )
        chosen.append((text, FORMS[form], place))
    return [
        QueuedOutput(text, opener(place), is_lossless=is_lossless) for text, opener, place in chosen
    ]
