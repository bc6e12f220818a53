"""Making things ahead in a thread."""

from __future__ import annotations

import threading

import pytest

from ctt.data.sending import Ahead


def test_the_following_one_is_made_in_a_thread_and_every_one_is_what_it_is_without() -> None:
    made: list[tuple[int, bool]] = []

    def make(number: int) -> int:
        made.append((number, threading.current_thread() is threading.main_thread()))
        return number**2

    ahead, direct = Ahead[int, int](threaded=True), Ahead[int, int](threaded=False)
    taken = [ahead.take(make, *keys) for keys in ((0, 1), (1, 2), (2, None), (3, 4), (7, None))]
    assert taken == [0, 1, 4, 9, 49]
    assert made == [(0, True), (1, False), (2, False), (3, True), (4, False), (7, True)]
    assert [direct.take(make, n, n + 1) for n in range(3)] == [0, 1, 4] and made[6:] == [(0, True), (1, True), (2, True)]


def test_an_error_in_the_thread_is_raised_where_its_result_is_taken() -> None:
    ahead = Ahead[int, float](threaded=True)
    assert ahead.take(lambda number: 1 / number, 1, 0) == 1
    with pytest.raises(ZeroDivisionError):
        ahead.take(lambda number: 1 / number, 0, None)
