"""What the recorded curves are like: the spread of seeds, what early epochs predict, how much settings matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from benchmarks.sweep_policies.curves import Curve, by_configuration
from benchmarks.sweep_policies.landscape import Landscape
from sweeps.search.encoding import Space

Floats = NDArray[np.float64]

_LEVELS = 6
_DRAWS = 10
_SETTINGS_OF_A_SIZE = 1024
_SIZE = "student."


def describe(curves: Sequence[Curve], landscape: Landscape, space: Space) -> Iterator[str]:
    """Lines for the console.

    Args:
        curves: With equal numbers of seeds, two at least.
        landscape: Fitted to them.
    """
    rates = np.array([[each.miss_rates for each in same] for same in by_configuration(curves).values()])
    ends = rates[:, :, -1].mean(axis=1)
    yield f"{len(curves)} trainings, {sum(each.cpu_seconds for each in curves) / 3600:.1f} hours of CPU"
    yield f"means at the end: {_percent(ends.min())} to {_percent(ends.max())} %, SD {_percent(ends.std())} points"
    yield "SD over seeds at the end, in points, by the mean at the end:"
    for part in np.array_split(np.argsort(ends), _LEVELS):
        spread = np.sqrt(rates[part, :, -1].var(axis=1, ddof=1).mean())
        yield f"  {_percent(ends[part].min())} to {_percent(ends[part].max())} %: {_percent(spread)}"
    yield "share of the variance of the mean of the other seeds at the end that one training explains, by its epoch:"
    yield "  " + ", ".join(f"{epoch + 1}: {_explained(rates, epoch):.2f}" for epoch in range(rates.shape[2]))
    best = landscape.hypervolume(landscape.points(landscape.front))
    recorded = landscape.hypervolume(landscape.points([same[0].params for same in by_configuration(curves).values()]))
    others = [landscape.hypervolume(landscape.points(_drawn(space, len(rates), draw))) for draw in range(_DRAWS)]
    yield (
        f"share of the best hypervolume of {len(rates)} configurations: recorded {recorded / best:.3f}, "
        f"others {np.mean(others) / best:.3f} ± {np.std(others) / best:.3f}"
    )
    gains = [_gain(landscape, space, params) for params in landscape.front]
    yield (
        "points that the best settings miss less than the median ones, of each size of the front: "
        f"{_percent(min(gains))} to {_percent(max(gains))}"
    )


def _explained(rates: Floats, epoch: int) -> float:
    one, others = rates[:, 0, epoch], rates[:, 1:, -1].mean(axis=1)
    return float(np.corrcoef(one, others)[0, 1] ** 2)


def _gain(landscape: Landscape, space: Space, of_size: dict[str, object]) -> float:
    sizes = {name: value for name, value in of_size.items() if name.startswith(_SIZE)}
    settings = _drawn(space, _SETTINGS_OF_A_SIZE, _DRAWS)
    ends = landscape.points([{**each, **sizes} for each in settings])[:, 0]
    return float(np.median(ends) - ends.min())


def _drawn(space: Space, count: int, seed: int) -> list[dict[str, object]]:
    engine = qmc.Sobol(len(space.settings), scramble=True, rng=1000 + seed)
    return space.configurations(space.snapped(engine.random_base2(int(np.ceil(np.log2(count))))[:count]))


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
