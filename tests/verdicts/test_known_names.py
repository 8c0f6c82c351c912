"""Names have numbers: the same name always the same, and what is forgotten leaves the others as they were."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from apptell.flows.hashing import HashKey, new_key
from apptell.verdicts.known_names import NO_NAME, KnownNames, Texts, hash_two
from tests.flows.test_hashing import sip_hash_128


@settings(max_examples=50)
@given(st.lists(st.lists(st.one_of(st.none(), st.text(max_size=40)), max_size=20), max_size=4))
def test_a_name_has_one_number_and_no_name_has_none(batches: list[list[str | None]]) -> None:
    known, expected = KnownNames(new_key()), dict[str, int]()
    for batch in batches:
        numbers = [expected.setdefault(name, len(expected)) if name else NO_NAME for name in batch]
        assert known.numbers(pa.array(batch, pa.string())).tolist() == numbers
    assert [known.name(number) for number in range(len(known))] == list(expected)
    every = np.arange(-1, len(known), dtype=np.int32)
    assert known.column(every).to_pylist() == [None, *expected]


def test_many_names_are_found_again() -> None:
    names = pa.array([f"host{i}.example" for i in range(20_000)])
    known = KnownNames(new_key())
    first = known.numbers(names)
    assert first.tolist() == list(range(20_000))
    assert (known.numbers(names.slice(5000, 100)) == first[5000:5100]).all()


def test_what_is_forgotten_gets_a_new_number_and_what_is_kept_is_found() -> None:
    known = KnownNames(new_key())
    known.numbers(pa.array(["a", "b", "c", "d"]))
    assert known.keep(np.array([3, 1])).tolist() == [NO_NAME, 1, NO_NAME, 0]
    assert known.numbers(pa.array(["b", "a", "d"])).tolist() == [1, 2, 0]


def test_texts_are_hashed_with_siphash_of_128_bits() -> None:
    secret = HashKey(np.uint64(0x0706050403020100), np.uint64(0x0F0E0D0C0B0A0908))
    texts = [bytes(range(65, 65 + n)).decode() for n in range(20)]
    forward, backward = (np.empty((len(texts), 2), np.uint64) for _ in range(2))
    columns = Texts.of(pa.array(texts)), Texts.of(pa.array(texts[::-1]))
    hash_two(*columns[0], *columns[1], secret, forward, backward)
    assert forward.tolist() == [list(sip_hash_128(secret, text.encode())) for text in texts]
    assert backward.tolist() == forward.tolist()[::-1]
