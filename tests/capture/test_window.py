import pytest

from apptell.capture.window import Window
from apptell.errors import CaptureError


class Pieces:
    """A stream of prepared pieces; an exception among them is raised."""

    stopped = False

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    def readinto(self, view):
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        view[: len(piece)] = piece
        return len(piece)

    def close(self):
        pass


def test_unread_bytes_move_to_the_front_and_places_stay_those_of_the_stream():
    window = Window(Pieces(b"abcdefgh", b"ij"), "x", size=8)
    assert window.fill()
    window.start = 6
    assert window.fill()
    assert window.peek(100) == b"ghij"
    assert (window.start, window.at(window.start)) == (0, "at byte 6")


def test_a_full_window_grows_and_keeps_its_bytes():
    window = Window(Pieces(b"abcd", b"efgh", b"ij"), "x", size=4)
    assert window.fill_to(10)
    assert window.peek(100) == b"abcdefghij"
    assert len(window.buffer) == 16
    assert not window.fill_to(11)
    assert window.damage is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (CaptureError("x: broken"), "x: broken"),
        (OSError(5, "Input/output error"), "x: Input/output error"),
    ],
)
def test_damage_is_kept_until_it_is_asked_for(error, message):
    window = Window(Pieces(b"ab", error, b"never"), "x", size=8)
    assert window.fill()
    assert not window.fill()
    assert not window.fill()
    assert window.peek(9) == b"ab"
    assert str(window.damage) == message
