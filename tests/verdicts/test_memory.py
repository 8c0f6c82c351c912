"""What is remembered does not depend on the order of adding, ages, and stays within its bounds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.flows.hashing import new_key
from apptell.verdicts.known_names import Texts, hash_two
from apptell.verdicts.memory import Memory
from apptell.verdicts.memory_kernel import MAX_VALUES, NOTHING, SEVERAL, UNASKED, Ends, settle
from tests.verdicts.memory_twin import PlainMemory

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from numpy.typing import NDArray

SECRET = new_key()
NAMES = Texts.of(pa.array(["b.example", "a.example", "a", "", *map(str, range(200))]))
"""Texts of the values; the first four do not sort as their numbers do."""
SIGHTING = tuple[int, str, str, int, int]
"""Value, client, server, and from when to when."""


def ends(clients: Sequence[str], servers: Sequence[str], port: int = 0) -> Ends:
    hashes = [np.empty((len(clients), 2), np.uint64) for _ in range(2)]
    client, server = (Texts.of(pa.array(each, pa.string())) for each in (clients, servers))
    hash_two(*client, *server, SECRET, *hashes)
    return Ends(*hashes, np.full(len(clients), port, np.uint16))


def add(memory: Memory, *sightings: SIGHTING) -> None:
    values, clients, servers, first, last = zip(*sightings, strict=True)
    memory.add(
        ends(clients, servers),
        np.array(values, np.int32),
        np.array(first, np.int64),
        np.array(last, np.int64),
    )


def at(
    memory: Memory, place: int, client: str = "c", server: str = "s", *, by_server: bool = False
) -> tuple[int, list[int]]:
    """The latest value and all, ascending."""
    asked = by_server, ends([client], [server]), np.array([place]), np.ones(1, bool)
    found = memory.counting(*asked)
    assert found[:, 0].tolist() == [0] * len(found)
    only = np.full(1, NOTHING, np.int32)
    latest = memory.settle(*asked, np.ones(1, bool), Owners(), only)
    values = sorted(found[:, 1].tolist())
    owners = {owner_of(value) for value in values}
    assert only.tolist() == [SEVERAL if len(owners) > 1 else min(owners, default=NOTHING)]
    assert (latest[0] in values) == bool(values)
    return int(latest[0]), values


def owner_of(value: int) -> int:
    return 1 + value % 3


class Owners:
    """Names that have three owners between them, each of whom is asked for when it is first needed."""

    def __init__(self) -> None:
        self.names = SimpleNamespace(texts=NAMES)
        self.of_asked = np.full(len(NAMES), UNASKED, np.int32)

    def of(self, numbers: NDArray[np.int64]) -> None:
        for number in numbers.tolist():
            self.of_asked[number] = owner_of(number)


def test_a_value_counts_from_when_it_was_seen_until_it_is_too_old() -> None:
    memory = Memory(10)
    add(memory, (7, "c", "s", 100, 100))
    for by_server in (False, True):
        said = [at(memory, place, by_server=by_server)[1] for place in (99, 100, 110, 111)]
        assert said == [[], [7], [7], []]
    assert at(memory, 100, client="d") == (NOTHING, [])
    assert at(memory, 100, client="d", by_server=True) == (7, [7])
    assert at(memory, 100, server="t", by_server=True) == (NOTHING, [])


def test_ports_are_told_apart() -> None:
    memory = Memory(10)
    memory.add(ends(["c"], ["s"], 443), np.array([7], np.int32), np.array([100]), np.array([100]))
    for port, only in ((443, 7), (80, NOTHING)):
        said = memory.only(
            ends(["c", "d"], ["s", "s"], port), np.array([100, 100]), np.ones(2, bool)
        )
        assert said.tolist() == [only, only]


def test_of_several_values_the_one_that_was_first_seen_last_comes_first() -> None:
    memory = Memory(10)
    for value, place in ((8, 100), (9, 105), (8, 107)):
        add(memory, (value, "c", "s", place, place))
    assert [at(memory, place)[0] for place in (104, 108, 116)] == [8, 9, 8]


def test_values_are_listed_from_the_newest_on_and_then_by_their_texts() -> None:
    memory = Memory(10)
    for value, place in ((1, 100), (2, 105), (0, 105), (3, 300)):
        add(memory, (value, "c", "s", place, place))
    add(memory, (4, "d", "s", 108, 108))
    names = ["b", "x", "a", "c", "d"]
    found = memory.newest_first(ends(["c"], ["s"]), 109, names.__getitem__)
    assert found == ([2, 0, 1], [4, 2, 0, 1])


def test_of_values_first_seen_together_the_one_whose_text_sorts_first_comes_first() -> None:
    memory = Memory(10)
    for value in (0, 1, 2):
        add(memory, (value, "c", "s", 100, 100))
        assert at(memory, 105)[0] == value


def test_what_a_pair_tells_precedes_what_its_server_tells() -> None:
    memory = Memory(10)
    add(memory, (1, "c", "s", 100, 100), (2, "d", "s", 100, 100))
    said = memory.only(ends(["c", "d", "e"], ["s"] * 3), np.full(3, 105), np.array([1, 1, 1], bool))
    assert said.tolist() == [1, 2, SEVERAL]
    assert memory.only(ends(["c"], ["s"]), np.array([105]), np.zeros(1, bool)).tolist() == [NOTHING]


def test_rows_with_several_values_or_a_shared_one_are_settled_as_several() -> None:
    rows = np.array([0, 1, 1, 2, 2, 3, 4, 4])
    values = np.array([5, 5, 5, 5, 6, 0, -1, 7], np.int32)
    only = np.full(6, NOTHING, np.int32)
    settle(rows, values, only)
    assert only.tolist() == [5, 5, SEVERAL, SEVERAL, 7, NOTHING]


sighted = st.tuples(
    st.integers(0, 5),
    st.sampled_from("cd"),
    st.sampled_from("st"),
    st.integers(0, 60),
    st.integers(0, 9),
)


def spans(sightings: list[SIGHTING]) -> list[SIGHTING]:
    return [(value, c, s, first, first + size) for value, c, s, first, size in sightings]


@settings(max_examples=60)
@given(
    st.lists(sighted, min_size=1, max_size=32),
    st.randoms(use_true_random=False),
    st.integers(0, 80),
    st.integers(1, 4),
)
def test_it_remembers_as_its_twin_does_in_any_order(
    listed: list[SIGHTING], chance: random.Random, place: int, max_keys: int
) -> None:
    sightings = spans(listed)
    shuffled = list(sightings)
    chance.shuffle(shuffled)
    pairs: PlainMemory[int] = PlainMemory(7)
    whole, shuffled_too, pieces = (Memory(7) for _ in range(3))
    few, few_pairs, few_servers = (
        Memory(7, max_keys),
        PlainMemory[int](7, max_keys),
        PlainMemory[int](7, max_keys),
    )
    add(whole, *sightings)
    add(shuffled_too, *shuffled)
    add(few, *sightings)
    for value, client, server, first, last in sightings:
        add(pieces, (value, client, server, first, last))
        pairs.add((client, server), value, first, last)
        few_pairs.add((client, server), value, first, last)
        few_servers.add(server, value, first, last)
    for client in "cd":
        for server in "st":
            expected = sorted(pairs.at((client, server), place))
            for memory in (whole, shuffled_too, pieces):
                assert at(memory, place, client, server)[1] == expected
            latest = {at(memory, place, client, server)[0] for memory in (whole, shuffled_too)}
            assert len(latest) == 1
            assert at(few, place, client, server)[1] == sorted(
                few_pairs.at((client, server), place)
            )
            found = at(few, place, client, server, by_server=True)[1]
            assert found == sorted(few_servers.at(server, place))
    assert len(few) == len(few_pairs) <= max_keys


def test_when_there_are_too_many_keys_the_one_untouched_longest_goes() -> None:
    memory = Memory(10, max_keys=2)
    for client in ("k1", "k2", "k1", "k3"):
        add(memory, (1, client, "s", 100, 100))
    assert len(memory) == 2
    assert [at(memory, 100, client)[1] for client in ("k1", "k2", "k3")] == [[1], [], [1]]


def test_under_one_key_only_so_many_values_are_kept_and_it_stays_ambiguous() -> None:
    memory = Memory(1000)
    for value in range(100):
        add(memory, (value + 4, "c", "s", value, value))
    latest, said = at(memory, 110)
    assert latest == 103
    assert said == list(range(104 - MAX_VALUES, 104))


def test_many_keys_are_found_again_and_memory_has_a_bound() -> None:
    n, most = 20_000, 4096
    every, few = Memory(10), Memory(10, most)
    clients = [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(n)]
    for memory in (every, few):
        for start in range(0, n, 777):
            part = clients[start : start + 777]
            add(memory, *((i % 100, c, c, 100, 100) for i, c in enumerate(part, start)))
    found = every.only(ends(clients, clients), np.full(n, 100), np.ones(n, bool))
    assert found.tolist() == [i % 100 for i in range(n)]
    found = few.only(ends(clients, clients), np.full(n, 100), np.ones(n, bool))
    assert (found[:-most] == NOTHING).all()
    assert found[-most:].tolist() == [i % 100 for i in range(n - most, n)]
    assert len(few) == most


def test_a_few_keys_with_very_many_sightings_stay_within_the_bound() -> None:
    memory = Memory(10, max_keys=2)
    for place in range(0, 400 * 20, 20):
        add(memory, (place % 3 + 4, "c", "s", place, place), (9, "d", "s", place, place))
    assert at(memory, 399 * 20)[0] in (4, 5, 6)
    assert len(memory) <= 2


def test_values_can_be_renumbered() -> None:
    memory = Memory(10)
    add(memory, (5, "c", "s", 100, 100), (9, "d", "s", 100, 100))
    assert memory.values().tolist() == [5, 9]
    new = np.zeros(10, np.int32)
    new[[5, 9]] = 1, 0
    memory.renumber(new)
    assert [at(memory, 100, client)[1] for client in "cd"] == [[1], [0]]
