"""Values and the times at which they were seen, under keys; what was known under a key at a time out.

What is remembered does not depend on the order in which it is added, so that flows of a file, which come when
they end, and flows of an interface, which come while they are open, find the same. Only where there are more
keys than the memory has room for does the order matter: the key that was added to the longest time ago goes
first. Keys are texts and numbers of the network: the hash of Python's dictionaries is keyed by a secret of
the process, so nobody can choose keys that collide.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

MAX_KEYS: Final = 1 << 16
"""Keys that are remembered at once."""
MAX_VALUES: Final = 8
"""Spans of values that are remembered under one key; the one that was seen the longest time ago goes first."""
Value = TypeVar("Value")


class _Span(Generic[Value]):
    """A value that was seen again and again, never longer apart than it is kept."""

    __slots__ = ("first_ns", "last_ns", "value")

    def __init__(self, value: Value, first_ns: int, last_ns: int) -> None:
        self.value = value
        self.first_ns = first_ns
        self.last_ns = last_ns


class Memory(Generic[Value]):
    """Remembers under each key which values were seen, and when.

    Args:
        keep_ns: how long a value counts after it was last seen, ns.
        max_keys: keys that are remembered at once.
    """

    def __init__(self, keep_ns: int, max_keys: int = MAX_KEYS) -> None:
        self.keep_ns = keep_ns
        self.max_keys = max_keys
        self._known: OrderedDict[Hashable, list[_Span[Value]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, key: Hashable, value: Value, first_ns: int, last_ns: int) -> None:
        """Remembers that ``value`` was seen under ``key`` from ``first_ns`` to ``last_ns``."""
        spans = self._known.get(key)
        if spans is None:
            self._known[key] = [_Span(value, first_ns, last_ns)]
            if len(self._known) > self.max_keys:
                self._known.popitem(last=False)
            return
        self._known.move_to_end(key)
        near = [
            span
            for span in spans
            if span.value == value
            and first_ns - self.keep_ns <= span.last_ns
            and span.first_ns - self.keep_ns <= last_ns
        ]
        if not near:
            spans.append(_Span(value, first_ns, last_ns))
            if len(spans) > MAX_VALUES:
                spans.remove(min(spans, key=lambda span: span.last_ns))
            return
        kept = near[0]
        kept.first_ns = min(first_ns, *(span.first_ns for span in near))
        kept.last_ns = max(last_ns, *(span.last_ns for span in near))
        for span in near[1:]:  # it fills the time between two spans
            spans.remove(span)

    def at(self, key: Hashable, time_ns: int) -> list[Value]:
        """The values that count at a time, each once, those first that came last."""
        spans = self._known.get(key)
        if spans is None:
            return []
        oldest = time_ns - self.keep_ns
        found = [span for span in spans if span.first_ns <= time_ns and span.last_ns >= oldest]
        if len(found) > 1:
            found.sort(key=lambda span: (-span.first_ns, -span.last_ns, str(span.value)))
        return [span.value for span in found]
