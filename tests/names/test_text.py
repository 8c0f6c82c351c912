"""Names written as text: what is escaped, and that the bytes can be read back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apptell.names.text import COMMA, GROWTH, NO_SEPARATOR, escape, escape_into, unescape


def plainly(name: bytes, separator: int = NO_SEPARATOR) -> str:
    """The rule of ``apptell.names.text`` by Python's own decoder."""
    text = ""
    for letter in name.decode("utf-8", "surrogateescape"):
        code = ord(letter)
        if 0xDC80 <= code <= 0xDCFF:
            text += f"\\x{code - 0xDC00:02x}"
        elif code < 0x80:
            is_plain = 32 < code < 127 and letter != "\\" and code != separator
            text += letter if is_plain else f"\\x{code:02x}"
        else:
            text += f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
    return text


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"chat.example.org", "chat.example.org"),
        (b"Chat_1.example", "Chat_1.example"),
        (b"good.example\0.evil.test", r"good.example\x00.evil.test"),
        ("pay\u200bpal.example".encode(), r"pay\u200bpal.example"),
        ("\u202eelpmaxe".encode(), r"\u202eelpmaxe"),
        (b"a\tb c\x7f\r\n", r"a\x09b\x20c\x7f\x0d\x0a"),
        ("b\u00fccher.example".encode(), r"b\u00fccher.example"),
        ("\U0001f600".encode(), r"\U0001f600"),
        (b"\xff\xc0\x80\xed\xa0\x80", r"\xff\xc0\x80\xed\xa0\x80"),
        (b"\\x00", r"\x5cx00"),
        (b"\xe2\x80", r"\xe2\x80"),
        (b"", ""),
    ],
)
def test_odd_bytes_are_escaped_and_plain_names_are_not(sent, text):
    assert escape(sent) == text
    assert unescape(text) == sent


@given(st.binary(max_size=40) | st.text(max_size=20).map(lambda text: text.encode()))
@example(b"\xf4\x90\x80\x80")
def test_every_name_is_printable_and_can_be_read_back(name):
    text = escape(name)
    assert text == plainly(name)
    assert unescape(text) == name
    assert len(text) <= GROWTH * len(name)
    assert all(32 < ord(letter) < 127 for letter in text)


@given(st.binary(max_size=12), st.integers(0, 48))
def test_a_name_is_written_whole_or_not_at_all(name, room):
    out = np.full(room + 1, 1, dtype=np.uint8)
    end = escape_into(
        np.frombuffer(name, dtype=np.uint8), 0, len(name), COMMA, False, out[:room], 0
    )
    text = plainly(name, COMMA)
    assert end == (len(text) if len(text) <= room else -1)
    assert out[room] == 1
    if end >= 0:
        assert out[:end].tobytes().decode() == text


def test_letters_are_written_in_lower_case_where_asked():
    out = np.zeros(20, dtype=np.uint8)
    data = np.frombuffer(b"Chat.EXAMPLE", dtype=np.uint8)
    end = escape_into(data, 0, len(data), NO_SEPARATOR, True, out, 2)
    assert out[2:end].tobytes() == b"chat.example"


def test_text_that_is_no_escape_stands_for_itself():
    assert unescape(r"\ud800\Uffffffff\x4") == rb"\ud800\Uffffffff\x4"
    assert unescape("b\u00fccher") == "b\u00fccher".encode()
