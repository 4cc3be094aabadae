"""Small forests and a coarse front: the tests check the simulator, not how good its predictions are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.sweep_policies import landscape


@pytest.fixture(scope="session", autouse=True)
def fast_landscape() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landscape, "_TREES", 60)
        patch.setattr(landscape, "_FRONT_SAMPLES", 2**9)
        yield
