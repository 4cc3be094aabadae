"""Which failed writes stay pending, and which are dropped."""

from __future__ import annotations

import pytest

from sweeps.tracking.background import MAX_ATTEMPTS, BackgroundWriter


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.tracking.background.RETRY_SECONDS", 0.0)


def write_with(answers: list[bool]) -> tuple[list[int], BackgroundWriter]:
    """Write to a store that cannot be reached a number of times, and then succeeds.

    Args:
        answers: For each failure, whether the store answers another request after it.

    Returns:
        The number of failures before the write succeeded, if it did, and the writer.
    """
    written: list[int] = []
    failures = 0

    def write() -> None:
        nonlocal failures
        if failures < len(answers):
            failures += 1
            raise ConnectionError("connection refused")
        written.append(failures)

    writer = BackgroundWriter("http://127.0.0.1:5000", lambda: answers[failures - 1])
    writer.add(write)
    writer.flush()
    return written, writer


def test_write_that_failed_while_the_store_was_away_is_not_dropped_when_it_is_back() -> None:
    # The store comes back between the last attempt that fails and the question whether it answers.
    written, writer = write_with([False] * MAX_ATTEMPTS + [True])
    assert (written, writer.rejections, writer.num_pending) == ([MAX_ATTEMPTS + 1], [], 0)


def test_write_that_fails_although_the_store_answers_is_dropped() -> None:
    written, writer = write_with([True] * MAX_ATTEMPTS)
    assert (written, writer.rejections, writer.num_pending) == ([], ["connection refused"], 0)


def test_only_failures_in_a_row_count() -> None:
    # 2 (MAX_ATTEMPTS - 1) failures while the store answers, but it was away between the two halves.
    half = [True] * (MAX_ATTEMPTS - 1)
    written, writer = write_with([*half, False, *half])
    assert (written, writer.rejections) == ([2 * len(half) + 1], [])
