from pathlib import Path

import pytest

from apptell.labels.file_names import app_and_groups
from lab import apps, plan


def test_the_paper_s_size_has_the_paper_s_numbers():
    counts = plan.shares(97_706)
    assert sum(count for app, count in counts.items() if app != "other") == 44_853
    assert counts["other"] == 52_853
    assert sorted(counts.values())[:3] == [5_936, 7_185, 7_779]


def test_parts_differ_by_at_most_one_and_add_up():
    parts = plan.split(103, 10)
    assert sum(parts) == 103
    assert set(parts) == {10, 11}


def test_every_recording_has_all_apps_and_they_share_no_address():
    recordings = plan.dataset(20_000, 1, drift=False)
    assert len({settings.recording for settings in recordings}) == len(recordings)
    assert len({settings.network.subnet for settings in recordings}) == len(recordings)
    assert {settings.day for settings in recordings} == set(range(5))
    assert all(
        min(settings.quotas.values()) > 0 and len(settings.quotas) == 7 for settings in recordings
    )
    totals = {app: sum(s.quotas[app] for s in recordings) for app in recordings[0].quotas}
    assert totals == plan.shares(20_000)


def test_the_first_recordings_have_every_device_network_day_and_both_versions_of_ip():
    first = plan.dataset(97_706, 1, drift=False)[:8]
    assert {s.tls for s in first} == {name for name, _ in plan.DEVICES}
    assert {s.network.name for s in first} == set(plan.NETWORKS)
    assert {s.day for s in first} == set(range(plan.N_DAYS))
    assert {s.network.version for s in first} == {4, 6}
    assert {s.version for s in first} == {"oldest", "older", "current"}


def test_a_recording_s_folder_names_its_groups():
    settings = plan.dataset(97_706, 1, drift=False)[3]
    _, groups = app_and_groups(Path("d", settings.place, "capture.pcap"), Path("d"))
    assert groups["source"].startswith("r003/")
    assert groups["day"] == "3"
    assert groups["device"] == "gnutls"
    assert groups["network"] == "train"
    assert groups["version"] == "older"
    assert groups["capture_point"] == "gateway"


def test_every_package_of_the_lab_has_a_label():
    lines = dict(line.split(",") for line in plan.labels().splitlines())
    assert lines["test.lab.irc"] == "irc"
    assert lines["test.lab.browser"] == "other"
    assert set(lines.values()) == {*apps.APPS, *apps.MORE, "other"}


def test_no_device_network_or_day_is_tied_to_a_front_end():
    recordings = plan.dataset(97_706, 1, drift=False)
    for of in (lambda s: s.tls, lambda s: s.network.name, lambda s: s.day):
        met = {
            value: {s.front for s in recordings if of(s) == value} for value in map(of, recordings)
        }
        assert min(map(len, met.values())) >= 2


def test_a_new_app_appears_on_the_fourth_day_with_all_its_flows():
    recordings = plan.dataset(5_000, 1, drift=False, new_apps=["irc"])
    assert {settings.day for settings in recordings if "irc" in settings.quotas} == {3, 4}
    assert (
        sum(settings.quotas.get("irc", 0) for settings in recordings) == plan.shares(5_000)["irc"]
    )


def test_an_app_beyond_the_six_comes_with_their_mean_and_leaves_theirs_alone():
    recordings = plan.dataset(97_706, 1, drift=False, new_apps=["deltachat"])
    assert sum(settings.quotas.get("deltachat", 0) for settings in recordings) == 44_853 // 6
    assert sum(settings.quotas["irc"] for settings in recordings) == plan.shares(97_706)["irc"]
    assert {settings.day for settings in recordings if "deltachat" in settings.quotas} == {3, 4}


def test_with_thirty_recordings_each_day_has_each_device_once():
    recordings = plan.dataset(
        11_000, 1, drift=True, new_apps=["irc", "deltachat"], per_recording=367
    )
    assert len(recordings) == 30
    assert len({(settings.day, settings.tls) for settings in recordings}) == 30
    for app in ("irc", "deltachat"):
        days = {settings.day for settings in recordings if app in settings.quotas}
        assert days == {3, 4}, app


@pytest.mark.parametrize("settings", plan.sample(1), ids=lambda s: s.recording)
def test_a_sample_recording_asks_for_more_than_is_kept(settings):
    assert all(quota > plan.SAMPLE_FLOWS for quota in settings.quotas.values())


def test_half_of_the_dataset_is_behind_one_front_end():
    fronts = [settings.front for settings in plan.dataset(97_706, 1, drift=False)]
    assert 0.5 <= sum(front != "none" for front in fronts) / len(fronts) <= 0.7


def test_each_device_network_and_day_is_in_two_sample_recordings_and_no_pair_twice():
    recordings = plan.sample(1)
    for name in ("tls", "network", "day"):
        values = [getattr(settings, name) for settings in recordings]
        values = [getattr(value, "name", value) for value in values]
        assert {values.count(value) for value in values} == {2}
    triples = [(s.tls, s.network.name, s.day) for s in recordings]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert len({(triple[one], triple[other]) for triple in triples}) == 6
