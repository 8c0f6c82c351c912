"""Numbers and times of logs: digits of every script, and nothing out of range."""

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apptell.labels import fields
from apptell.testing import START_NS


@pytest.mark.parametrize(
    ("text", "number"),
    [("443", 443), (" 443 ", 443), ("٤٤٣", 443), ("۴۴۳", 443), ("४४३", 443), ("443.0", 443),
     (443, 443), ("+1", 1)],
)  # fmt: skip
def test_whole_numbers_are_read_in_the_digits_of_every_script(text, number):
    assert fields.integer(text, 0, 65535) == number


@pytest.mark.parametrize(
    "text",
    ["", "²", "443a", "-1", "65536", "1e3", "0x10", "4_4", "9" * 5000, None, True, 1.5, [], "½", "1.5", "nan"],
)  # fmt: skip
def test_what_is_no_whole_number_in_range_is_a_value_error(text):
    with pytest.raises(ValueError):
        fields.integer(text, 0, 65535)


@pytest.mark.parametrize(
    "text",
    ["1e9999999", "1e-9999999", "9" * 300, "-1", "-1e18", "inf", "nan", "9223372036854775808000", "",
     "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31", None, {}],
)  # fmt: skip
def test_what_is_no_time_between_1970_and_2262_is_a_value_error(text):
    with pytest.raises(ValueError):
        fields.time_ns(text)


def test_times_keep_every_digit():
    assert fields.time_ns("1700000000.123456789") == START_NS + 123_456_789
    assert fields.time_ns("1.7e9") == START_NS
    assert fields.time_ns("٢٠٢٣-١١-١٤T٢٢:١٣:٢٠.٠٠٠+٠٠٠٠") == START_NS
    assert fields.milliseconds_ns("1700000000123") == START_NS + 123_000_000


@given(st.datetimes(datetime(1970, 1, 1), datetime(2262, 1, 1)))  # noqa: DTZ001 - given a zone below
def test_a_moment_is_exact_to_a_microsecond(moment):
    aware = moment.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    exact = ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds) * 1000
    assert fields.iso_ns(aware.isoformat()) == exact


@given(st.text())
def test_any_text_is_a_value_or_a_value_error(text):
    for read in (
        fields.port,
        fields.uid,
        fields.milliseconds_ns,
        fields.time_ns,
        fields.duration_ns,
    ):
        with suppress(ValueError):
            assert read(text) >= -(2**31)
