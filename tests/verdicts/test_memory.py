"""What is remembered does not depend on the order of adding, ages, and stays within its bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from apptell.verdicts.memory import MAX_VALUES, Memory

if TYPE_CHECKING:
    import random


def test_a_value_counts_from_when_it_was_seen_until_it_is_too_old() -> None:
    memory: Memory[str] = Memory(10)
    memory.add("k", "a", 100, 100)
    assert [memory.at("k", place) for place in (99, 100, 110, 111)] == [[], ["a"], ["a"], []]
    assert memory.at("other", 100) == []


def test_of_several_values_the_one_that_was_first_seen_last_stands_first() -> None:
    memory: Memory[str] = Memory(10)
    for value, place in (("a", 100), ("b", 105), ("a", 107)):
        memory.add("k", value, place, place)
    assert memory.at("k", 104) == ["a"]
    assert memory.at("k", 108) == ["b", "a"]
    assert memory.at("k", 116) == ["a"]


def test_what_is_seen_later_does_not_change_what_counted_before() -> None:
    memory: Memory[str] = Memory(10)
    memory.add("k", "b", 100, 100)
    memory.add("k", "a", 100, 100)
    before = memory.at("k", 105)
    for value, place in (("b", 106), ("c", 106), ("b", 150), ("a", 300)):
        memory.add("k", value, place, place)
    assert memory.at("k", 105) == before == ["a", "b"]


seen = st.tuples(st.sampled_from("ab"), st.integers(0, 60))


@given(st.lists(seen, max_size=32), st.randoms(use_true_random=False), st.integers(0, 80))
def test_the_order_of_adding_changes_nothing(
    sightings: list[tuple[str, int]], chance: random.Random, place: int
) -> None:
    shuffled = list(sightings)
    chance.shuffle(shuffled)
    first: Memory[str] = Memory(7)
    second: Memory[str] = Memory(7)
    for memory, each in ((first, sightings), (second, shuffled)):
        for value, at in each:
            memory.add("k", value, at, at)
    assert first.at("k", place) == second.at("k", place)
    assert set(first.at("k", place)) == {v for v, at in sightings if at <= place <= at + 7}


def test_when_there_are_too_many_keys_the_one_untouched_longest_goes() -> None:
    memory: Memory[str] = Memory(10, max_keys=2)
    for key in ("k1", "k2", "k1", "k3"):
        memory.add(key, "a", 100, 100)
    assert len(memory) == 2
    assert [memory.at(key, 100) for key in ("k1", "k2", "k3")] == [["a"], [], ["a"]]


def test_under_one_key_only_so_many_values_are_kept_and_it_stays_ambiguous() -> None:
    memory: Memory[int] = Memory(1000)
    for value in range(100):
        memory.add("k", value, value, value)
    assert memory.at("k", 110) == list(range(99, 99 - MAX_VALUES, -1))
