import itertools
import statistics

from lab.link import LinkModel


def arrivals(model, n_packets=4_000, gap_s=0.002):
    return [(n * gap_s, model.arrival_s(n * gap_s)) for n in range(n_packets)]


def test_without_jitter_every_packet_is_late_by_the_delay():
    for sent, arrived in arrivals(LinkModel(20, 0, 0, 0, seed=1), 50):
        assert abs(arrived - sent - 0.020) < 1e-9


def test_a_share_of_packets_is_lost():
    lost = sum(arrived is None for _, arrived in arrivals(LinkModel(5, 1, 0.1, 0, seed=2)))
    assert 320 < lost < 480


def test_jitter_alone_keeps_the_order():
    times = [arrived for _, arrived in arrivals(LinkModel(10, 8, 0, 0, seed=3))]
    assert times == sorted(times)
    assert (
        statistics.pstdev(
            arrived - sent for sent, arrived in arrivals(LinkModel(10, 8, 0, 0, seed=3))
        )
        > 0.002
    )


def test_reordering_lets_packets_be_overtaken():
    times = [arrived for _, arrived in arrivals(LinkModel(10, 0, 0, 0.05, seed=4))]
    overtaken = sum(later < earlier for earlier, later in itertools.pairwise(times))
    assert 40 < overtaken < 200


def test_the_same_seed_gives_the_same_link():
    settings = (12, 6, 0.02, 0.01)
    assert arrivals(LinkModel(*settings, seed=7)) == arrivals(LinkModel(*settings, seed=7))
    assert arrivals(LinkModel(*settings, seed=7)) != arrivals(LinkModel(*settings, seed=8))
