from apptell.capture.link_types import (
    MAX_PACKET_BYTES,
    canonical_link_type,
    largest_packet,
    link_type_name,
)


def test_registered_values_have_their_names():
    assert [link_type_name(value) for value in (0, 1, 101, 113, 127, 276)] == [
        "NULL",
        "ETHERNET",
        "RAW",
        "LINUX_SLL",
        "IEEE802_11_RADIOTAP",
        "LINUX_SLL2",
    ]


def test_a_value_without_a_name_is_named_by_its_number():
    assert link_type_name(60_000) == "LINKTYPE_60000"


def test_values_that_some_systems_write_stand_for_the_registered_ones():
    assert [canonical_link_type(value) for value in (12, 14, 1, 149)] == [101, 101, 1, 149]


def test_only_buses_have_larger_packets():
    assert largest_packet(1) == MAX_PACKET_BYTES
    assert largest_packet(249) > MAX_PACKET_BYTES
