"""The memory of one kind of key in plain Python, as ``apptell.verdicts.memory`` is specified."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from apptell.verdicts.memory import MAX_KEYS
from apptell.verdicts.memory_kernel import MAX_VALUES

if TYPE_CHECKING:
    from collections.abc import Hashable

Value = TypeVar("Value")


class PlainMemory(Generic[Value]):
    """Remembers under each key which values were seen, and when.

    A value has spans ``first, last, first, last, ...`` in ascending order: it was seen again and again from the
    first to the last of a span, never longer apart than it is kept.
    """

    def __init__(self, keep_ns: int, max_keys: int = MAX_KEYS) -> None:
        self.keep_ns = keep_ns
        self.max_keys = max_keys
        self._known: OrderedDict[Hashable, dict[Value, list[int]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, key: Hashable, value: Value, first: int, last: int) -> None:
        """Remembers that ``value`` was seen under ``key`` from ``first`` to ``last``."""
        known = self._known
        values = known.get(key)
        if values is None:
            known[key] = {value: [first, last]}
            if len(known) > self.max_keys:
                known.popitem(last=False)
            return
        known.move_to_end(key)
        spans = values.get(value)
        if spans is None:
            values[value] = [first, last]
            if len(values) > MAX_VALUES:
                del values[next(iter(values))]
        elif spans[-2] <= first <= spans[-1] + self.keep_ns:  # in order, as nearly all are
            if last > spans[-1]:
                spans[-1] = last
        else:
            values[value] = self._joined(spans, first, last)

    def _joined(self, spans: list[int], first: int, last: int) -> list[int]:
        """Spans with one more, which takes up those that it touches."""
        apart: list[tuple[int, int]] = []
        for begin, end in zip(spans[::2], spans[1::2], strict=True):
            if first - self.keep_ns <= end and begin - self.keep_ns <= last:
                first, last = min(first, begin), max(last, end)
            else:
                apart.append((begin, end))
        return [place for span in sorted([*apart, (first, last)]) for place in span]

    def at(self, key: Hashable, place: int) -> list[Value]:
        """The values that count at a place, each once, those that were first seen last in front."""
        values = self._known.get(key)
        if values is None:
            return []
        oldest = place - self.keep_ns
        found = []
        for value, spans in values.items():
            for at in range(0, len(spans), 2):
                if spans[at] <= place and spans[at + 1] >= oldest:
                    found.append((-spans[at], str(value), value))
                    break
        if len(found) > 1:
            found.sort(key=lambda each: each[:2])
        return [each[2] for each in found]
