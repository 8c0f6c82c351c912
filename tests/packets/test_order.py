import numpy as np
import pytest

from apptell.packets.order import PacketOrder


def places(*batches: list[int]) -> list[int]:
    order = PacketOrder()
    return [place for batch in batches for place in order(np.array(batch, dtype=np.int64)).tolist()]


def test_times_that_increase_are_the_places():
    assert places([5, 6, 9], [], [10, 1000]) == [5, 6, 9, 10, 1000]


def test_equal_times_and_times_that_step_back_follow_the_packet_before():
    assert places([100, 100, 90, 101], [95, 200]) == [100, 101, 102, 103, 104, 200]


@pytest.mark.parametrize("extreme", [2**63 - 1, -(2**63)])
def test_places_increase_also_at_the_ends_of_time(extreme):
    found = places([extreme, 5, extreme], [extreme, extreme], [7])
    assert found == sorted(set(found))
    assert all(0 < place < 2**63 for place in found)


def test_how_packets_are_cut_into_batches_does_not_matter():
    times = np.random.default_rng(0).integers(0, 50, 200).tolist()
    assert places(times) == places(times[:7], times[7:90], times[90:])
