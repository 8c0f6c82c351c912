"""The compiled code over the arrays of ``verdicts.memory``: keys, and what was seen under them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from apptell.flows.hashing import mix
from apptell.kernels.compiled import inlined, kernel, subroutine

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_VALUES: Final = 64
"""Values that are remembered under one key; the one that was added the longest time ago goes first."""
NOTHING: Final = -1
"""No value, and no entry."""
SEVERAL: Final = -2
"""Values of several apps or services."""
UNASKED: Final = -3
"""The owner of a value that nobody has been asked about."""
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd
N_KEYS, NEWEST, OLDEST, FREE_KEY, FREE_SEEN, N_SEEN, MOST_KEYS = range(7)


class Ends(NamedTuple):
    """Who reached what, for n flows or answers."""

    client: NDArray[np.uint64]
    """Hashes of the clients' addresses, shape (n, 2)."""
    server: NDArray[np.uint64]
    """Hashes of the servers' addresses, likewise."""
    port: NDArray[np.uint16]
    """Server ports, shape (n,); 0 where the address alone counts."""

    def of_hosts(self) -> Ends:
        """The same without ports."""
        return self._replace(port=np.zeros_like(self.port))


class MemoryArrays(NamedTuple):
    """The arrays of a memory with room for k keys and s sightings."""

    buckets: NDArray[np.int32]
    """Keys by their hashes, open addressing; -1 is free. A power of two of them."""
    hashes: NDArray[np.uint64]
    """Of each key, shape (k, 2)."""
    keys: NDArray[np.int32]
    """Of each key: first sighting, number of values, next older and next newer key; shape (k, 4). A free key
    has no values, and the next free one in the third place."""
    seen: NDArray[np.int32]
    """Of each sighting: value, next sighting under the key; shape (s, 2). Sightings of a value are
    neighbours. The value of a free sighting is NOTHING."""
    spans: NDArray[np.int64]
    """Of each sighting: first and last place, shape (s, 2); those of one value are further apart than it is
    kept."""
    state: NDArray[np.int64]
    """Numbers of keys in use, newest, oldest and first free key, first free sighting, sightings in use, and
    the most keys."""


@inlined
def _pair_hash(ends: Ends, row: int) -> Any:
    """The hash of a client with a server's address and port."""
    port = np.uint64(ends.port[row])
    first = mix(mix(ends.client[row, 0] + _GOLDEN) ^ (ends.server[row, 0] + port))
    second = mix(mix(ends.client[row, 1] + _GOLDEN) ^ (ends.server[row, 1] + port))
    return first, second


@inlined
def _server_hash(ends: Ends, row: int) -> Any:
    """The hash of a server's address and port."""
    port = np.uint64(ends.port[row]) * _GOLDEN
    return mix(ends.server[row, 0] + port), mix(ends.server[row, 1] + port)


@inlined
def _find(first: Any, second: Any, room: MemoryArrays) -> Any:
    """The bucket of a key and the key, or a free bucket and NOTHING."""
    mask = np.uint64(len(room.buckets) - 1)
    at = first & mask
    found = np.int64(NOTHING)
    while True:
        key = np.int64(room.buckets[np.int64(at)])
        if key < 0:
            break
        if room.hashes[key, 0] == first and room.hashes[key, 1] == second:
            found = key
            break
        at = (at + np.uint64(1)) & mask
    return np.int64(at), found


@subroutine
def _forget_seen(room: MemoryArrays, key: Any, before: Any, at: Any) -> Any:
    """Takes a sighting out of its key's list; the one that follows it."""
    after = np.int64(room.seen[at, 1])
    if before < 0:
        room.keys[key, 0] = after
    else:
        room.seen[before, 1] = after
    room.seen[at, 0] = NOTHING
    room.seen[at, 1] = room.state[FREE_SEEN]
    room.state[FREE_SEEN] = at
    room.state[N_SEEN] -= 1
    return after


@inlined
def _unchain(room: MemoryArrays, key: Any) -> None:
    """Takes a key out of the order of keys."""
    older, newer = np.int64(room.keys[key, 2]), np.int64(room.keys[key, 3])
    if older >= 0:
        room.keys[older, 3] = newer
    else:
        room.state[OLDEST] = newer
    if newer >= 0:
        room.keys[newer, 2] = older
    else:
        room.state[NEWEST] = older


@inlined
def _chain(room: MemoryArrays, key: Any) -> None:
    """Makes a key the newest."""
    newest = room.state[NEWEST]
    room.keys[key, 2] = newest
    room.keys[key, 3] = NOTHING
    if newest >= 0:
        room.keys[newest, 3] = key
    else:
        room.state[OLDEST] = key
    room.state[NEWEST] = key


@subroutine
def _forget_oldest(room: MemoryArrays) -> None:
    """Forgets the key that was added to the longest time ago."""
    key = np.int64(room.state[OLDEST])
    _unchain(room, key)
    at = np.int64(room.keys[key, 0])
    while at >= 0:
        at = _forget_seen(room, key, NOTHING, at)
    mask = np.int64(len(room.buckets) - 1)
    hole, _ = _find(room.hashes[key, 0], room.hashes[key, 1], room)
    place = hole
    while True:  # close the gap, as ``flows.hash_table.unlink`` does
        place = (place + 1) & mask
        other = np.int64(room.buckets[place])
        if other < 0:
            break
        home = np.int64(room.hashes[other, 0] & np.uint64(mask))
        if (place - home) & mask >= (place - hole) & mask:
            room.buckets[hole] = other
            hole = place
    room.buckets[hole] = NOTHING
    room.keys[key, 1] = 0
    room.keys[key, 2] = room.state[FREE_KEY]
    room.state[FREE_KEY] = key
    room.state[N_KEYS] -= 1


@subroutine
def _forget_first_value(room: MemoryArrays, key: Any) -> None:
    """Forgets the value that was added to a key the longest time ago."""
    at = np.int64(room.keys[key, 0])
    value = room.seen[at, 0]
    while at >= 0 and room.seen[at, 0] == value:
        at = _forget_seen(room, key, NOTHING, at)
    room.keys[key, 1] -= 1


@subroutine
def _add(
    room: MemoryArrays,
    hash_first: Any,
    hash_second: Any,
    value: Any,
    first: Any,
    last: Any,
    keep: int,
) -> None:
    """Remembers that ``value`` was seen under a key from ``first`` to ``last``."""
    bucket, key = _find(hash_first, hash_second, room)
    if key < 0:
        if room.state[N_KEYS] >= room.state[MOST_KEYS]:
            _forget_oldest(room)
            bucket, key = _find(hash_first, hash_second, room)
        key = room.state[FREE_KEY]
        room.state[FREE_KEY] = room.keys[key, 2]
        room.state[N_KEYS] += 1
        room.buckets[bucket] = key
        room.hashes[key, 0], room.hashes[key, 1] = hash_first, hash_second
        room.keys[key, 0], room.keys[key, 1] = NOTHING, 0
        _chain(room, key)
    elif room.state[NEWEST] != key:
        _unchain(room, key)
        _chain(room, key)
    before, at = np.int64(NOTHING), np.int64(room.keys[key, 0])
    of_value, joined = np.int64(NOTHING), np.int64(NOTHING)
    while at >= 0:
        is_next = True
        if room.seen[at, 0] == value:
            begin, end = room.spans[at, 0], room.spans[at, 1]
            if first - keep <= end and begin - keep <= last:
                if joined < 0:
                    joined = at
                    room.spans[at, 0], room.spans[at, 1] = min(begin, first), max(end, last)
                else:
                    room.spans[joined, 0] = min(begin, room.spans[joined, 0])
                    room.spans[joined, 1] = max(end, room.spans[joined, 1])
                    at = _forget_seen(room, key, before, at)
                    is_next = False
            if is_next:
                of_value = at
        elif of_value >= 0:
            break
        if is_next:
            before = at
            at = np.int64(room.seen[at, 1])
    if joined >= 0:
        return
    if room.state[FREE_SEEN] < 0:
        if room.state[OLDEST] == key:  # no other is left
            _forget_first_value(room, key)
            before, of_value = np.int64(NOTHING), np.int64(NOTHING)
            at = np.int64(room.keys[key, 0])
            while at >= 0:
                before = at
                if room.seen[at, 0] == value:
                    of_value = at
                at = np.int64(room.seen[at, 1])
        else:
            _forget_oldest(room)
    if of_value >= 0:
        before = of_value
    else:
        room.keys[key, 1] += 1
    new = room.state[FREE_SEEN]
    room.state[FREE_SEEN] = room.seen[new, 1]
    room.state[N_SEEN] += 1
    room.seen[new, 0] = value
    room.spans[new, 0], room.spans[new, 1] = first, last
    if before >= 0:
        room.seen[new, 1] = room.seen[before, 1]
        room.seen[before, 1] = new
    else:
        room.seen[new, 1] = room.keys[key, 0]
        room.keys[key, 0] = new
    if room.keys[key, 1] > MAX_VALUES:
        _forget_first_value(room, key)


@kernel(allocates=False)
def remember(
    by_pair: MemoryArrays,
    by_server: MemoryArrays,
    ends: Ends,
    values: NDArray[np.int32],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    keep: int,
) -> None:
    """Adds n values under their pairs and servers; what is NOTHING is not added."""
    for row in range(len(values)):
        if values[row] >= 0:
            one, two = _pair_hash(ends, row)
            _add(by_pair, one, two, values[row], first[row], last[row], keep)
            one, two = _server_hash(ends, row)
            _add(by_server, one, two, values[row], first[row], last[row], keep)


@inlined
def _is_before(one: Any, other: Any, ends: NDArray[np.int32], data: NDArray[np.uint8]) -> Any:
    """Whether text ``one`` sorts before text ``other``."""
    at, stop = np.int64(ends[one]), np.int64(ends[one + 1])
    place, end = np.int64(ends[other]), np.int64(ends[other + 1])
    while at < stop and place < end and data[at] == data[place]:
        at += 1
        place += 1
    return place < end and (at >= stop or data[at] < data[place])


@inlined
def _settle_one(value: Any, row: Any, only: NDArray[np.int32]) -> None:
    if value == 0 or (value > 0 and only[row] != NOTHING and only[row] != value):
        only[row] = SEVERAL
    elif value > 0:
        only[row] = value


@inlined
def _sightings(room: MemoryArrays, is_by_server: Any, ends: Ends, row: Any) -> Any:
    """The first of the sightings under the pair, or the server, of a row; NOTHING where there is none."""
    first, second = _server_hash(ends, row) if is_by_server else _pair_hash(ends, row)
    _, key = _find(first, second, room)
    return np.int64(room.keys[key, 0]) if key >= 0 else np.int64(NOTHING)


@inlined
def _counts(room: MemoryArrays, at: Any, place: Any, keep: Any) -> Any:
    """Whether a sighting counts at a place."""
    return room.spans[at, 0] <= place and room.spans[at, 1] >= place - keep


@kernel(allocates=False)
def values_of(
    room: MemoryArrays,
    is_by_server: bool,
    ends: Ends,
    place: NDArray[np.int64],
    keep: int,
    is_asked: NDArray[np.bool_],
    found: NDArray[np.int64],
) -> int:
    """Writes row, value and when it was first seen of all that counts for n rows; how many they are.

    Of more than there is room for, the first are written.
    """
    count = 0
    for row in range(len(place)):
        at = _sightings(room, is_by_server, ends, row) if is_asked[row] else np.int64(NOTHING)
        while at >= 0:
            if _counts(room, at, place[row], keep):
                if count < len(found):
                    found[count, 0] = row
                    found[count, 1], found[count, 2] = room.seen[at, 0], room.spans[at, 0]
                count += 1
            at = np.int64(room.seen[at, 1])
    return count


@kernel(allocates=False)
def settle_values(
    room: MemoryArrays,
    is_by_server: bool,
    ends: Ends,
    place: NDArray[np.int64],
    keep: int,
    is_asked: NDArray[np.bool_],
    is_open: NDArray[np.bool_],
    text_ends: NDArray[np.int32],
    text: NDArray[np.uint8],
    owners: NDArray[np.int32],
    latest: NDArray[np.int32],
    only: NDArray[np.int32],
) -> int:
    """Settles each open row as ``settle`` does, with the owners of the values that count for it.

    ``owners`` has the owner of each value, or UNASKED. ``latest`` gets of each row the value that was first
    seen last; of several, that whose text sorts first.

    Returns:
        How many of these values have an owner that is still to be asked for; if any, ``only`` is unfinished.
    """
    n_unasked = 0
    for row in range(len(place)):
        latest[row] = NOTHING
        newest = np.int64(0)
        at = _sightings(room, is_by_server, ends, row) if is_asked[row] else np.int64(NOTHING)
        while at >= 0:
            if _counts(room, at, place[row], keep):
                begin, value = room.spans[at, 0], np.int64(room.seen[at, 0])
                best = np.int64(latest[row])
                if (
                    best < 0
                    or begin > newest
                    or (begin == newest and _is_before(value, best, text_ends, text))
                ):
                    newest, latest[row] = begin, value
                if is_open[row]:
                    if owners[value] == UNASKED:
                        n_unasked += 1
                    else:
                        _settle_one(owners[value], row, only)
            at = np.int64(room.seen[at, 1])
    return n_unasked


@kernel(allocates=False)
def only_values(
    by_pair: MemoryArrays,
    by_server: MemoryArrays,
    ends: Ends,
    place: NDArray[np.int64],
    keep: int,
    is_asked: NDArray[np.bool_],
    only: NDArray[np.int32],
) -> None:
    """The one value of each row's pair, else of its server; NOTHING, or SEVERAL."""
    for row in range(len(place)):
        only[row] = NOTHING
        if not is_asked[row]:
            continue
        for is_by_server in range(2):
            room = by_server if is_by_server else by_pair
            at = _sightings(room, is_by_server, ends, row)
            while at >= 0:
                if _counts(room, at, place[row], keep):
                    value = np.int64(room.seen[at, 0])
                    if only[row] == NOTHING:
                        only[row] = value
                    elif only[row] != value:
                        only[row] = SEVERAL
                at = np.int64(room.seen[at, 1])
            if only[row] != NOTHING:
                break


@kernel(allocates=False)
def settle(rows: NDArray[np.int64], values: NDArray[np.int32], only: NDArray[np.int32]) -> None:
    """Adds the values of some rows to the one value of each; SEVERAL where they differ, or where one is 0."""
    for index in range(len(rows)):
        _settle_one(values[index], rows[index], only)


@kernel(allocates=False)
def fill_buckets(
    hashes: NDArray[np.uint64], keys: NDArray[np.int32], buckets: NDArray[np.int32]
) -> None:
    """Puts the keys that have values into buckets that are free."""
    mask = np.uint64(len(buckets) - 1)
    for key in range(len(keys)):
        if keys[key, 1] == 0:
            continue
        at = hashes[key, 0] & mask
        while buckets[np.int64(at)] >= 0:
            at = (at + np.uint64(1)) & mask
        buckets[np.int64(at)] = key
