"""A few threads that pull their work."""

from collections.abc import Iterator
from threading import Event, Lock
from time import sleep

import pytest

from blnkctl.usecases.pool import Pool


def nothing() -> None:
    """Do nothing."""


def test_every_piece_is_worked_on_once() -> None:
    done: list[int] = []
    Pool[int](4, Event()).run(range(500), done.append, nothing)
    assert sorted(done) == list(range(500))


def test_as_many_are_in_work_as_there_are_threads_and_no_more() -> None:
    lock, running, most = Lock(), [0], [0]

    def work(_piece: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        sleep(0.01)
        with lock:
            running[0] -= 1

    Pool[int](3, Event()).run(range(30), work, nothing)
    assert most == [3]


def test_what_feeds_it_keeps_only_a_little_ahead() -> None:
    fed: list[int] = []
    stop = Event()

    def pieces() -> Iterator[int]:
        for number in range(10_000):
            fed.append(number)
            yield number

    def work(piece: int) -> None:
        if piece == 100:
            stop.set()

    Pool[int](1, stop).run(pieces(), work, nothing)
    assert len(fed) < 300


def test_a_stop_finishes_what_is_in_work_and_begins_nothing_more() -> None:
    stop, done = Event(), list[int]()

    def work(piece: int) -> None:
        stop.set()
        sleep(0.05)
        done.append(piece)

    Pool[int](2, stop).run(range(100), work, nothing)
    assert 1 <= len(done) <= 2


@pytest.mark.parametrize("where", ["work", "pieces"])
def test_what_a_thread_did_not_expect_is_raised_where_somebody_sees_it(where: str) -> None:
    def pieces() -> Iterator[int]:
        yield 1
        if where == "pieces":
            raise ZeroDivisionError

    def work(_piece: int) -> None:
        if where == "work":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Pool[int](2, Event()).run(pieces(), work, nothing)


def test_somebody_looks_ten_times_a_second_meanwhile() -> None:
    looks: list[int] = []
    Pool[int](1, Event()).run([1], lambda _piece: sleep(0.35), lambda: looks.append(1))
    assert len(looks) >= 3
