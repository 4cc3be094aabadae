"""What Ray Tune is given for a worker that Ray's memory monitor killed; a real one: tests/end_to_end/."""

from __future__ import annotations

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError

from sweeps.execution.tune.exhausted_memory import (
    as_lost_worker,
    describe_exhausted_memory,
    exhausted_memory_loses_worker,
)

# The beginning of Ray 2.60's message, which has 40 lines.
MESSAGE = """\
1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 127.0.0.1, ID: bf2f) was 8.41GB \
used / 23.54GB limit (0.357047)
OOM kill reason: Memory usage 8906379264B exceeded threshold of 8897333248B (35.2% of 25276514304B limit)
"""


def test_exhausted_memory_is_the_loss_of_a_worker() -> None:
    lost = as_lost_worker(OutOfMemoryError(MESSAGE))  # type: ignore[no-untyped-call]
    assert isinstance(lost, RayActorError)
    assert describe_exhausted_memory(str(lost)) == (
        "Ray killed it, because the memory of its node was exhausted: 8.41GB used / 23.54GB limit; run fewer trials at "
        "once (--max-concurrent)"
    )


def test_other_texts_have_no_description() -> None:
    assert describe_exhausted_memory("The actor died unexpectedly before finishing this task.") is None


def test_other_exceptions_stay() -> None:
    error = RayActorError(error_msg="lost")
    assert as_lost_worker(error) is error


def test_tune_is_restored() -> None:
    before = RayActorManager._actor_task_failed
    with exhausted_memory_loses_worker():
        assert RayActorManager._actor_task_failed is not before
    assert RayActorManager._actor_task_failed is before
