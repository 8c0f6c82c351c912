"""What ``live`` does before packets come."""

import gc
import weakref

from apptell.service.warm_up import settle


class Knot:
    """Refers to itself: only a collection frees it."""

    def __init__(self):
        self.itself = self


def test_what_is_there_is_left_out_of_collections_and_what_comes_later_is_not():
    dead = weakref.ref(Knot())
    kept = [Knot()]
    try:
        settle()
        assert dead() is None
        assert gc.get_freeze_count() > 0
        frozen = weakref.ref(kept.pop())
        later = weakref.ref(Knot())
        gc.collect()
        assert frozen() is not None
        assert later() is None
    finally:
        gc.unfreeze()
