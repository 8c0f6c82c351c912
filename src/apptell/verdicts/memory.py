"""Remembers numbers under pairs of a client and a server, and under servers, with when they were seen.

Times are places in the order of packets (``packets.order``). What is remembered does not depend on the order
in which it is added, so that flows of a file, which come when they end, and flows of an interface, which come
while they are open, find the same. Only where there are more keys, or more values under a key, than the memory
has room for does the order matter: the key that was added to the longest time ago goes first.

Keys are keyed hashes of 128 bits of what the network sends (``flows.hashing``), so that senders cannot choose
keys that collide. All memory is arrays that double up to a bound; the code over them is compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.kernels.machine_code import Held
from apptell.verdicts.memory_kernel import (
    FREE_KEY,
    FREE_SEEN,
    MAX_VALUES,
    MOST_KEYS,
    N_KEYS,
    N_SEEN,
    NOTHING,
    Ends,
    MemoryArrays,
    fill_buckets,
    only_values,
    remember,
    settle_values,
    values_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from apptell.verdicts.name_owners import NameOwners

MAX_KEYS: Final = 1 << 16
"""Keys that are remembered at once."""
_FIRST: Final = 1024
_SEEN_A_KEY: Final = 2
"""Sightings for each key that there is room for."""


class Memory:
    """Remembers which values were seen under each pair of a client and a server, and under each server.

    A value counts from a place at which it was seen until it was not seen for as long as it is kept.

    Args:
        keep_ns: how long a value counts after it was last seen, ns.
        max_keys: pairs, and servers, that are remembered at once; of each, twice as many values.
    """

    def __init__(self, keep_ns: int, max_keys: int = MAX_KEYS) -> None:
        self.keep_ns = keep_ns
        self.max_keys = max_keys
        self._hold(_empty(max_keys), _empty(max_keys))

    def _hold(self, pairs: MemoryArrays, servers: MemoryArrays) -> None:
        self._pairs, self._servers = pairs, servers
        self._held = Held(pairs), Held(servers)

    def __len__(self) -> int:
        """Pairs that are remembered."""
        return int(self._pairs.state[N_KEYS])

    def add(
        self,
        ends: Ends,
        values: NDArray[np.int32],
        first: NDArray[np.int64],
        last: NDArray[np.int64],
    ) -> None:
        """Remembers that n values, shape (n,), were seen from ``first`` to ``last``; NOTHING is skipped."""
        pairs = _with_room(self._pairs, len(values))
        servers = _with_room(self._servers, len(values))
        if pairs is not self._pairs or servers is not self._servers:
            self._hold(pairs, servers)
        remember(*self._held, ends, values, first, last, self.keep_ns)

    def counting(
        self, is_by_server: bool, ends: Ends, place: NDArray[np.int64], is_asked: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """The values that count at n places under their pairs, or their servers.

        Args:
            is_by_server: whether servers count, and not pairs.
            ends: n pairs.
            place: shape (n,).
            is_asked: which of them are looked up, shape (n,).

        Returns:
            Row, value, and when it was first seen, ascending by row, shape (m, 3).
        """
        room = self._held[is_by_server]
        size = 2 * len(place) + MAX_VALUES
        while True:
            found = np.empty((size, 3), np.int64)
            count = values_of(room, is_by_server, ends, place, self.keep_ns, is_asked, found)
            if count <= size:
                return found[:count]
            size = count

    def settle(
        self,
        is_by_server: bool,
        ends: Ends,
        place: NDArray[np.int64],
        is_asked: NDArray[np.bool_],
        is_open: NDArray[np.bool_],
        names: NameOwners,
        only: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        """Adds the owners of the names that count at n places under their pairs, or their servers, to ``only``.

        Args:
            is_by_server: whether servers count, and not pairs.
            ends: n pairs.
            place: shape (n,).
            is_asked: which of them are looked up, shape (n,).
            is_open: which of them get an owner, shape (n,).
            names: whose the values are.
            only: changed: the one owner of each row, NOTHING, or SEVERAL; shape (n,).

        Returns:
            Of each row the value that was first seen last, or NOTHING, shape (n,): of several that whose text
            sorts first.
        """
        room = self._held[is_by_server]
        latest = np.empty(len(place), np.int32)
        texts = names.names.texts
        there = (room, is_by_server, ends, place, self.keep_ns, is_asked, is_open, *texts)
        if settle_values(*there, names.of_asked, latest, only):
            names.of(self.counting(is_by_server, ends, place, is_asked)[:, 1])
            settle_values(*there, names.of_asked, latest, only)
        return latest

    def only(
        self, ends: Ends, place: NDArray[np.int64], is_asked: NDArray[np.bool_]
    ) -> NDArray[np.int32]:
        """The one value that counts at n places under the pair, else under the server.

        Returns:
            Shape (n,): NOTHING where there is none, SEVERAL where there are several.
        """
        only = np.empty(len(place), np.int32)
        only_values(*self._held, ends, place, self.keep_ns, is_asked, only)
        return only

    def newest_first(
        self, ends: Ends, place: int, text: Callable[[int], str]
    ) -> tuple[list[int], list[int]]:
        """The values that count at a place under one pair, and under its server.

        Args:
            ends: the pair.
            place: in the order of packets.
            text: of a value; of values that were first seen together, that whose text sorts first comes first.
        """
        found = []
        for is_by_server in (False, True):
            said = self.counting(is_by_server, ends, np.array([place], np.int64), np.ones(1, bool))
            values = [(-first, text(value), value) for _, value, first in said.tolist()]
            found.append([value for *_, value in sorted(values)])
        return found[0], found[1]

    def values(self) -> NDArray[np.int32]:
        """The values that are remembered, ascending, each once."""
        every = np.concatenate([room.seen[:, 0] for room in (self._pairs, self._servers)])
        found: NDArray[np.int32] = np.unique(every)
        return found[found >= 0]

    def renumber(self, new: NDArray[np.int32]) -> None:
        """Replaces each value by its new number; ``new`` has a place for every value."""
        for room in (self._pairs, self._servers):
            is_used = room.seen[:, 0] >= 0
            room.seen[is_used, 0] = new[room.seen[is_used, 0]]


def _empty(max_keys: int) -> MemoryArrays:
    """The memory of at most so many keys, with room for a few."""
    state = np.array([0, NOTHING, NOTHING, NOTHING, NOTHING, 0, max_keys])
    room = MemoryArrays(
        np.zeros(0, np.int32),
        np.zeros((0, 2), np.uint64),
        np.zeros((0, 4), np.int32),
        np.zeros((0, 2), np.int32),
        np.zeros((0, 2), np.int64),
        state,
    )
    return _with_room(room, 1)


def _with_room(room: MemoryArrays, n: int) -> MemoryArrays:
    """The memory with room for n more keys and sightings, or as much as it may have."""
    _, hashes, keys, seen, spans, state = room
    most = int(state[MOST_KEYS])
    wanted = min(int(state[N_KEYS]) + n, most)
    if wanted > len(keys):
        size = min(max(_FIRST, 2 * len(keys), wanted), most)
        state[FREE_KEY], fresh = _more(keys, (0, 0, NOTHING, NOTHING), 2, size, state[FREE_KEY])
        hashes = np.concatenate([hashes, np.empty((size - len(keys), 2), np.uint64)])
        buckets = np.full(1 << (4 * size - 1).bit_length(), NOTHING, np.int32)
        fill_buckets(hashes, fresh, buckets)  # the new keys have no values
        room = room._replace(buckets=buckets, hashes=hashes, keys=fresh)
    most_seen = _SEEN_A_KEY * most + MAX_VALUES
    wanted = min(int(state[N_SEEN]) + n, most_seen)
    if wanted > len(seen):
        size = min(max(_FIRST, 2 * len(seen), wanted), most_seen)
        state[FREE_SEEN], fresh = _more(seen, (NOTHING, NOTHING), 1, size, state[FREE_SEEN])
        spans = np.concatenate([spans, np.empty((size - len(spans), 2), np.int64)])
        room = room._replace(seen=fresh, spans=spans)
    return room


def _more(
    rows: NDArray[np.int32], row: tuple[int, ...], link: int, size: int, free: int
) -> tuple[int, NDArray[Any]]:
    """The rows up to ``size``, the new ones chained before those that are free; the first free one, and all."""
    n = len(rows)
    more = np.full((size - n, len(row)), row, np.int32)
    more[:-1, link] = np.arange(n + 1, size)
    more[-1, link] = free
    return n, np.concatenate([rows, more])
