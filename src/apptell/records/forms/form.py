"""Base classes of output forms, which write record batches in one format.

A new form is a module with one subclass of ``LineForm`` (a line of text for each record) or ``EventForm``
(a JSON object for each record, with its own fields), or of ``Form`` for files that are not lines.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Protocol, TextIO, cast

from apptell.errors import UsageError
from apptell.records.values import event_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from apptell.records.text_table import Column


class RecordWriter(Protocol):
    """Takes record batches of one schema, one after the other."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Writes some records."""

    def close(self) -> None:
        """Ends the output."""


class Form(ABC):
    """How records are written."""

    name: ClassVar[str]
    """As in ``--format`` and ``--out``."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """File names that end in one of these are of this form."""
    is_text: ClassVar[bool] = True
    """Whether it may go to standard output."""
    has_own_fields: ClassVar[bool] = False
    """Whether it has its own fields, whatever columns are requested; these need the group ``core``."""

    @abstractmethod
    def writer(
        self, stream: TextIO | BinaryIO, schema: pa.Schema, columns: Sequence[Column] = ()
    ) -> RecordWriter:
        """Begins an output.

        Args:
            stream: a text stream, or a binary one where ``is_text`` is False.
            schema: of the records.
            columns: what a table for people shows; other forms need none.

        Raises:
            UsageError: the form has no fields for records of this schema.
        """


class LineForm(Form):
    """A form that gives each record a line of text; it can go to every transport."""

    reads_plain: ClassVar[bool] = False
    """Whether it takes ``Records`` (``records.schema``) as it takes record batches."""

    @abstractmethod
    def lines(self, batch: Any) -> list[str]:
        """A line for each record of a record batch, without its line feed."""

    def header(self, schema: pa.Schema) -> str:
        """What a file begins with, whole lines; nothing by default."""
        del schema
        return ""

    def text(self, batch: Any) -> str:
        """The lines of some records, each ended by a line feed."""
        return "".join(line + "\n" for line in self.lines(batch))

    def writer(
        self, stream: TextIO | BinaryIO, schema: pa.Schema, columns: Sequence[Column] = ()
    ) -> RecordWriter:
        """Begins an output with its header."""
        del columns
        return _LineWriter(cast("TextIO", stream), self, schema)


class EventForm(LineForm):
    """A JSON object a line, with the field names of another system."""

    has_own_fields = True

    @abstractmethod
    def event(self, row: dict[str, Any]) -> dict[str, Any]:
        """The object of one record, given as ``values.event_rows`` does."""

    def lines(self, batch: pa.RecordBatch) -> list[str]:
        """The objects of some records as JSON."""
        return [json.dumps(self.event(row), ensure_ascii=False) for row in event_rows(batch)]


class _LineWriter:
    """Writes lines to a stream and flushes after each batch, so that a reader at a pipe has them."""

    def __init__(self, stream: TextIO, form: LineForm, schema: pa.Schema) -> None:
        if form.has_own_fields and "community_id" not in schema.names:
            raise UsageError(
                f"the form {form.name} can write verdicts and flows, but not this table"
            )
        self._stream, self._form = stream, form
        stream.write(form.header(schema))

    def write(self, batch: pa.RecordBatch) -> None:
        """Writes some records."""
        self._stream.write(self._form.text(batch))
        self._stream.flush()

    def close(self) -> None:
        """Does nothing, because all records are written."""
        self._stream.flush()
