"""Ctrl-C and SIGTERM: immediate, deferred, repeated."""

from __future__ import annotations

import os
import signal
import time

import pytest

from sweeps.interruption import Interruption


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_raises_keyboard_interrupt(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():
        send(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_deferred_and_second_raises(number: int) -> None:
    seen = []
    with Interruption() as interruption, interruption.deferred():
        seen.append(interruption.is_requested)
        send(number)
        seen.append(interruption.is_requested)
        with pytest.raises(KeyboardInterrupt):
            send(number)
    assert seen == [False, True]


def test_signal_after_interruption_is_deferred_again() -> None:
    with Interruption() as interruption:
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        with interruption.deferred():
            send(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interruption.raise_if_requested()


def test_previous_signal_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interruption() as interruption, interruption.deferred():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_deadline_acts_like_a_first_signal() -> None:
    with Interruption(time.monotonic() + 0.05) as interruption:
        with interruption.deferred():
            until = time.monotonic() + 10
            while not interruption.is_requested and time.monotonic() < until:
                time.sleep(0.01)
        assert interruption.is_time_over
        with pytest.raises(KeyboardInterrupt):
            interruption.raise_if_requested()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_signal_before_the_deadline_is_no_end_of_time() -> None:
    with Interruption(time.monotonic() + 600) as interruption:
        with interruption.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            while not interruption.is_requested:
                time.sleep(0.01)
        assert not interruption.is_time_over
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_deadline_does_not_abort_an_interruption() -> None:
    with Interruption(time.monotonic() + 0.1) as interruption, interruption.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        until = time.monotonic() + 10
        while signal.getitimer(signal.ITIMER_REAL)[0] > 0 and time.monotonic() < until:
            time.sleep(0.01)
    assert (interruption.is_requested, interruption.is_time_over) == (True, False)
