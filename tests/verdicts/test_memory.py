"""What is remembered does not depend on the order of adding, ages, and stays within its bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from apptell.verdicts.memory import MAX_SPANS, Memory

if TYPE_CHECKING:
    import random


def test_a_value_counts_from_when_it_was_seen_until_it_is_too_old() -> None:
    memory: Memory[str] = Memory(10)
    memory.add("k", "me", "a", 100, 100)
    assert [memory.at("k", "me", time)[0] for time in (99, 100, 110, 111)] == [[], ["a"], ["a"], []]
    assert memory.at("other", "me", 100) == ([], [])


def test_of_several_values_the_one_that_came_last_stands_first() -> None:
    memory: Memory[str] = Memory(10)
    for value, time in (("a", 100), ("b", 105), ("a", 107)):
        memory.add("k", "me", value, time, time)
    assert memory.at("k", "me", 104)[0] == ["a"]
    assert memory.at("k", "me", 108)[0] == ["b", "a"]
    assert memory.at("k", "me", 116)[0] == ["a"]


def test_what_one_saw_and_what_only_others_saw_are_told_apart() -> None:
    memory: Memory[str] = Memory(10)
    for who, value in (("me", "a"), ("you", "a"), ("you", "b"), ("they", "b")):
        memory.add("k", who, value, 100, 100)
    assert memory.at("k", "me", 100) == (["a"], ["b"])
    assert memory.at("k", "nobody", 100) == ([], ["a", "b"])


seen = st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 60))


@given(st.lists(seen, max_size=MAX_SPANS), st.randoms(use_true_random=False), st.integers(0, 80))
def test_the_order_of_adding_changes_nothing(
    sightings: list[tuple[str, str, int]], chance: random.Random, time: int
) -> None:
    shuffled = list(sightings)
    chance.shuffle(shuffled)
    first: Memory[str] = Memory(7)
    second: Memory[str] = Memory(7)
    for memory, each in ((first, sightings), (second, shuffled)):
        for value, who, at in each:
            memory.add("k", who, value, at, at)
    assert first.at("k", "x", time) == second.at("k", "x", time)
    own, others = first.at("k", "x", time)
    counting = {(value, who) for value, who, at in sightings if at <= time <= at + 7}
    assert set(own) == {value for value, who in counting if who == "x"}
    assert set(others) == {value for value, _ in counting} - set(own)


def test_when_there_are_too_many_keys_the_one_untouched_longest_goes() -> None:
    memory: Memory[str] = Memory(10, max_keys=2)
    for key in ("k1", "k2", "k1", "k3"):
        memory.add(key, "me", "a", 100, 100)
    assert len(memory) == 2
    assert [memory.at(key, "me", 100)[0] for key in ("k1", "k2", "k3")] == [["a"], [], ["a"]]


def test_under_one_key_only_so_many_spans_are_kept_and_it_stays_ambiguous() -> None:
    memory: Memory[int] = Memory(1000)
    for value in range(50):
        memory.add("k", "me", value, value, value)
    assert memory.at("k", "me", 60)[0] == list(range(49, 49 - MAX_SPANS, -1))
