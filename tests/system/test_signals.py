"""Signals that end the program at once, or wait for a step that must not be cut in two."""

import os
import signal
from collections.abc import Iterator

import pytest

from blnkctl.system.signals import CAUGHT, Interrupted, Interrupts


@pytest.fixture
def told() -> list[str]:
    """Return what was told to the person."""
    return []


@pytest.fixture
def interrupts(told: list[str]) -> Iterator[Interrupts]:
    """Return handlers that are in force, and taken back afterwards."""
    made = Interrupts(lambda: told.append("waiting"))
    made.install()
    yield made
    made.restore()


@pytest.mark.parametrize("number", CAUGHT)
def test_a_signal_interrupts_at_once(interrupts: Interrupts, number: signal.Signals) -> None:
    with pytest.raises(Interrupted) as interrupted:
        os.kill(os.getpid(), number)

    assert interrupted.value.number == number
    assert interrupts.received == number


@pytest.mark.parametrize("number", CAUGHT)
def test_a_signal_waits_for_a_step_that_must_not_be_cut(
    interrupts: Interrupts, told: list[str], number: signal.Signals
) -> None:
    with interrupts.deferred():
        os.kill(os.getpid(), number)
        told.append("the step ended")

    assert told == ["waiting", "the step ended"]
    assert interrupts.received == number


def test_a_second_signal_ends_the_step(interrupts: Interrupts) -> None:
    with interrupts.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted) as interrupted:
            os.kill(os.getpid(), signal.SIGINT)

    assert interrupted.value.number == signal.SIGINT


def test_a_step_within_a_step_waits_for_the_outer_one(interrupts: Interrupts, told: list[str]) -> None:
    with interrupts.deferred():
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGHUP)
        told.append("the outer step ended")

    assert told == ["waiting", "the outer step ended"]


def test_what_the_parent_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts = Interrupts()
    try:
        interrupts.install()
        os.kill(os.getpid(), signal.SIGHUP)
        interrupts.restore()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

    assert interrupts.received is None


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in CAUGHT]
    interrupts = Interrupts()

    interrupts.install()
    during = [signal.getsignal(number) for number in CAUGHT]
    interrupts.restore()

    assert [signal.getsignal(number) for number in CAUGHT] == before
    assert during != before
