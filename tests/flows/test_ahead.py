"""Stages in threads."""

from __future__ import annotations

import sys
import threading

import pytest

from apptell.flows.ahead import AHEAD, Ahead


def counted(n, made):
    for number in range(n):
        made.append(number)
        yield number


def test_items_come_in_their_order_and_only_so_many_are_made_ahead():
    made = []
    ahead = Ahead(counted(100, made), "numbers")
    taken = []
    for item in ahead:
        taken.append(item)
        assert len(made) <= len(taken) + AHEAD + 1
    assert taken == made == list(range(100))
    ahead.join()


def test_an_exception_comes_behind_the_items_before_it():
    def breaks():
        yield 1
        yield 2
        raise ValueError("broken")

    ahead = Ahead(breaks(), "numbers")
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)


def test_stopping_closes_the_generator_in_its_thread_and_restores_the_interpreter():
    usual = sys.getswitchinterval()
    closed = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    ahead = Ahead(endless(), "zeros")
    assert sys.getswitchinterval() < usual
    next(ahead)
    ahead.stop()
    ahead.join()
    assert closed == ["apptell zeros"]
    assert sys.getswitchinterval() == pytest.approx(usual)
