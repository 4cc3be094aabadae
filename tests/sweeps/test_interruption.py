"""Ctrl-C and SIGTERM: immediate, deferred, repeated."""

from __future__ import annotations

import os
import signal

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
