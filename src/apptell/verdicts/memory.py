"""Values and who saw them when, under keys; what was known under a key at a time out.

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
MAX_SPANS: Final = 32
"""Spans that are remembered under one key; the one that ended the longest time ago goes first."""
Value = TypeVar("Value")


class Memory(Generic[Value]):
    """Remembers under each key who saw which values, and when.

    A span of a key is ``(first_ns, last_ns, who, value)``: the value was seen again and again from first to
    last, never longer apart than it is kept.

    Args:
        keep_ns: how long a value counts after it was last seen, ns.
        max_keys: keys that are remembered at once.
    """

    def __init__(self, keep_ns: int, max_keys: int = MAX_KEYS) -> None:
        self.keep_ns = keep_ns
        self.max_keys = max_keys
        self._known: OrderedDict[Hashable, list[tuple[int, int, str, Value]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, key: Hashable, who: str, value: Value, first_ns: int, last_ns: int) -> None:
        """Remembers that ``who`` saw ``value`` under ``key`` from ``first_ns`` to ``last_ns``."""
        known = self._known
        spans = known.get(key)
        if spans is None:
            known[key] = [(first_ns, last_ns, who, value)]
            if len(known) > self.max_keys:
                known.popitem(last=False)
            return
        known.move_to_end(key)
        keep_ns, kept = self.keep_ns, 0
        for span in spans:
            first, last, by, of = span
            if (
                by == who
                and of == value
                and first_ns - keep_ns <= last
                and first - keep_ns <= last_ns
            ):  # of two spans between which this one lies, one is made
                first_ns, last_ns = min(first, first_ns), max(last, last_ns)
            else:
                spans[kept] = span
                kept += 1
        del spans[kept:]
        spans.append((first_ns, last_ns, who, value))
        if len(spans) > MAX_SPANS:
            spans.remove(min(spans, key=lambda each: each[1]))

    def at(self, key: Hashable, who: str, time_ns: int) -> tuple[list[Value], list[Value]]:
        """The values that count at a time, each once, those that came last first.

        Returns:
            Those that ``who`` saw, and those that only others did.
        """
        spans = self._known.get(key)
        if spans is None:
            return [], []
        oldest = time_ns - self.keep_ns
        found = [span for span in spans if span[0] <= time_ns and span[1] >= oldest]
        if len(found) > 1:
            found.sort(key=lambda span: (-span[0], -span[1], str(span[3])))
        own = [span[3] for span in found if span[2] == who]
        others = [span[3] for span in found if span[2] != who and span[3] not in own]
        return own, list(dict.fromkeys(others)) if len(others) > 1 else others
