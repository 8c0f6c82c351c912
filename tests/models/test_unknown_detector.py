"""The detector of unlearned apps: its parts by hand, and its file."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from apptell.errors import ModelError, UsageError
from apptell.models.nearest_tokens import NearestTokens
from apptell.models.unknown_detector import (
    FEATURES,
    LEVELS,
    Description,
    LengthTable,
    UnknownDetector,
    cutoff_of,
    length_bins,
    parse_rate,
    rank,
)


def detector(*, neighbours: bool = True) -> UnknownDetector:
    random = np.random.default_rng(0)
    lengths = random.integers(-1400, 1400, (40, 5)).astype(np.float32)
    tokens = random.integers(1, 50, (12, 6)).astype(np.uint16)
    tokens[:, 4:] = 0
    return UnknownDetector(
        Description(
            LengthTable.of(lengths, np.arange(40) % 3, 3),
            NearestTokens.of(np.array([np.unique(row) for row in tokens[:, :1]], np.uint16))
            if neighbours
            else None,
        ),
        np.ones(len(FEATURES)),
        np.sort(random.normal(size=(3, len(LEVELS)))),
        np.array([100, 20, 3]),
        1 - LEVELS,
        -3.0,
        LEVELS**2,
    )


@pytest.mark.parametrize(("text", "rate"), [("5%", 0.05), ("0.05", 0.05), (" 2.5 % ", 0.025)])
def test_a_rate_is_a_share_or_a_percentage(text: str, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["0", "1", "100%", "five", "-3%", ""])
def test_a_rate_that_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a share"):
        parse_rate(text)


def test_the_similarity_is_the_largest_cosine_of_tf_idf_weights() -> None:
    random = np.random.default_rng(1)

    def flows(n: int) -> list[list[int]]:
        return [
            sorted(random.choice(40, random.integers(0, 9), replace=False) + 1) for _ in range(n)
        ]

    def array(rows: list[list[int]]) -> np.ndarray:
        return np.array([row + [0] * (9 - len(row)) for row in rows], np.uint16)

    references, asked = flows(30), flows(25)
    asked[0] = [60_000, 61_000]  # tokens that no reference flow has
    weight = {t: np.log(31 / (1 + sum(t in r for r in references))) for t in range(1, 65_536)}

    def cosine(one: list[int], other: list[int]) -> float:
        both = sum(weight[t] ** 2 for t in set(one) & set(other))
        size = np.sqrt(sum(weight[t] ** 2 for t in one) * sum(weight[t] ** 2 for t in other))
        return both / size if size else 0.0

    expected = [max(cosine(flow, reference) for reference in references) for flow in asked]
    found = NearestTokens.of(array(references)).similarity(array(asked))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_lengths_are_told_apart_by_direction_and_in_steps_of_16_bytes() -> None:
    bins = length_bins(np.array([0, 1, 15, 16, -1, -16, 1e6, -1e6], np.float32))
    assert bins[0] == 0
    assert bins[1] == bins[2] != bins[3]
    assert len(set(bins.tolist())) == 7


def test_a_length_of_another_class_makes_a_flow_less_likely() -> None:
    lengths = np.array([[100, -500]] * 20 + [[900, -50]] * 20, np.float32)
    table = LengthTable.of(lengths, np.repeat([0, 1], 20), 2)
    ratio, rarity = table.features(
        np.array([[100, -500], [100, -500], [1300, 1300]], np.float32), np.array([0, 1, 0])
    )
    assert ratio[1] > ratio[0]
    assert rarity[2] > rarity[0]


def test_a_rank_is_the_share_of_held_out_flows_of_the_class_that_look_more_familiar() -> None:
    quantiles = np.array([np.quantile(np.arange(1000), LEVELS), np.quantile([5.0, 6.0], LEVELS)])
    found = rank(
        np.array([-1.0, 500.0, 1000.0, 1000.0]),
        np.array([0, 0, 0, 1]),
        quantiles,
        np.array([1000, 2]),
    )
    # with two held-out flows no rank can be above 2/3: too little is known of that class
    np.testing.assert_allclose(found, [0, 0.5, 1000 / 1001, 2 / 3], atol=0.01)


def test_the_cutoff_is_the_smallest_rank_that_keeps_the_rate() -> None:
    called = np.maximum(1 - LEVELS, 0.03)
    assert cutoff_of(called, 0.05) == pytest.approx(0.95)
    assert cutoff_of(called, 0.01) > 1


@pytest.mark.parametrize("neighbours", [True, False])
def test_a_detector_is_the_same_after_writing_and_reading(neighbours: bool) -> None:
    one = detector(neighbours=neighbours)
    content = one.to_bytes()
    other = UnknownDetector.from_bytes(content, 3, "model")
    assert other.to_bytes() == content
    random = np.random.default_rng(2)
    p = random.dirichlet(np.ones(3), 20).astype(np.float32)
    lengths = random.integers(-1400, 1400, (20, 5)).astype(np.float32)
    similarity = random.random(20).astype(np.float32) if neighbours else None
    for mine, its in zip(
        one.judge(p, lengths, similarity), other.judge(p, lengths, similarity), strict=True
    ):
        np.testing.assert_array_equal(mine, its)


def test_in_context_a_rank_is_the_share_of_held_out_flows_with_a_smaller_probability() -> None:
    found = detector().ranks_in_context(np.array([0.0, 0.25, 0.9604, 1.0], np.float32))
    np.testing.assert_allclose(found, [0, 0.5, 0.98, 1], atol=0.011)


def test_a_detector_that_is_damaged_or_of_another_model_is_refused() -> None:
    content = detector().to_bytes()
    spoiled = [content[:100], b"", content.replace(b"<f4", b"<f8")]
    compressed = io.BytesIO()
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ratio.npy", bytes(100_000))
    for data in [*spoiled, compressed.getvalue()]:
        with pytest.raises(ModelError, match=r"^model: damaged, or of another model"):
            UnknownDetector.from_bytes(data, 3, "model")
    with pytest.raises(ModelError, match="has the shape"):
        UnknownDetector.from_bytes(content, 4, "model")


def changed(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **(dict(np.load(io.BytesIO(detector().to_bytes()))) | arrays))
    return content.getvalue()


@pytest.mark.parametrize(
    "arrays",
    [
        # rows of the index that would lead the kernel out of it
        {"nearest_count": np.array([10**6, 12 - 10**6])},
        {"nearest_count": np.array([[1]], np.uint16)},
        {"nearest_row": np.array([[0]], np.uint16), "nearest_value": np.ones((1, 1), np.float32)},
        {"nearest_references": np.array([np.inf])},
        {"nearest_references": np.array(["x"])},
        {"weight": np.ones(len(FEATURES), "M8[s]")},
        {"weight": np.ones(len(FEATURES), np.complex64)},
        {"n_held": np.array([1, 2, -3])},
    ],
)
def test_arrays_of_other_types_shapes_and_ranges_are_refused(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError, match=r"^model: damaged, or of another model"):
        UnknownDetector.from_bytes(changed(**arrays), 3, "model")


def test_an_archive_that_names_the_same_bytes_many_times_is_refused() -> None:
    content = detector().to_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = archive.start_dir
    end = content.index(b"PK\x05\x06")
    entries = content[start:end] * 50
    tail = bytearray(content[end:])
    number = int.from_bytes(tail[8:10], "little") * 50
    tail[8:12] = number.to_bytes(2, "little") * 2
    tail[12:16] = len(entries).to_bytes(4, "little")
    with pytest.raises(ModelError, match="smaller than what is in it"):
        UnknownDetector.from_bytes(content[:start] + entries + bytes(tail), 3, "model")
