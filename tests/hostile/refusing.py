"""Runs a command on a hostile input: it must end soon, with one message."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

SECONDS = 20.0
"""Far more than any try takes, on a machine that runs other tests."""
LONGEST_MESSAGE = 8_000
USER_ERROR = 2

Main = Callable[[Sequence[str] | None], int]


def refusal(main: Main, arguments: Sequence[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    """The message with which a command refuses its input."""
    capsys.readouterr()
    start = time.monotonic()
    try:
        code: object = main([str(argument) for argument in arguments])
    except SystemExit as ended:  # argparse's
        code = ended.code
    seconds = time.monotonic() - start
    message = capsys.readouterr().err
    assert code == USER_ERROR, message
    assert seconds < SECONDS
    assert "Traceback" not in message
    assert message.count("error: ") + message.count("hkd ") >= 1, message
    assert 0 < len(message) < LONGEST_MESSAGE
    assert all(character.isprintable() or character in "\n\r" for character in message)
    # torch's advice is to run the file's code.
    assert "weights_only" not in message
    return message
