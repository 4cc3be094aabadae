"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import os
import signal

import pytest

from sweeps.interruption import Interruption


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():
        send(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_where_it_would_harm_a_signal_waits_and_a_second_does_not(number: int) -> None:
    seen = []
    with Interruption() as interruption, interruption.deferred():
        seen.append(interruption.is_requested)
        send(number)
        seen.append(interruption.is_requested)
        with pytest.raises(KeyboardInterrupt):
            send(number)
    assert seen == [False, True]


def test_what_follows_an_interruption_can_wait_for_another() -> None:
    with Interruption() as interruption:
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        with interruption.deferred():
            # An impatient Ctrl-C while results are written; the next one means it.
            send(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interruption.raise_if_requested()


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interruption() as interruption, interruption.deferred():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
