"""Remembers values under keys, with the times at which they were seen and by whom.

Times are places in the order of packets (``packets.order``). What is remembered does not depend on the order
in which it is added, so that flows of a file, which come when they end, and flows of an interface, which come
while they are open, find the same. Only where there are more keys, or more values under a key, than the memory
has room for does the order matter: the key that was added to the longest time ago goes first. Keys are texts
and numbers of the network: the hash of Python's dictionaries is keyed by a secret of the process, so that
    senders cannot choose keys that collide.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

MAX_KEYS: Final = 1 << 16
"""Keys that are remembered at once."""
MAX_VALUES: Final = 64
"""Values that are remembered under one key; the one that was added the longest time ago goes first."""
Value = TypeVar("Value")


class Memory(Generic[Value]):
    """Remembers under each key which values were seen, and when.

    A value has spans ``first, last, first, last, ...`` in ascending order: it was seen again and again from the
    first to the last of a span, never longer apart than it is kept.

    Args:
        keep_ns: how long a value counts after it was last seen, ns.
        max_keys: keys that are remembered at once.
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
