from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.sweep_policies.landscape import Landscape
from benchmarks.sweep_policies.statistics import describe
from benchmarks.sweep_policies.task import load_task
from sweeps.search.encoding import Space
from sweeps.settings.space import distributions
from tests.benchmarks.sweep_policies.synthetic import costs, expected_curve, synthetic_curves


def test_curves_are_described_as_they_were_made() -> None:
    curves = synthetic_curves(64)
    space = Space(distributions(load_task().space), {})
    lines = list(describe(curves, Landscape(curves, space, costs, (1.0, 1.2e6, 1e9)), space))
    assert lines[0].startswith("192 trainings, ")
    # The noise of a seed: 0.01 / sqrt(1 - 0.8^2) = 0.0167 after some epochs, at any miss rate; of 10 or 11
    # configurations with three seeds, the estimate has a relative standard error of 1 / sqrt(2 * 21) = 0.15.
    spreads = [float(match[1]) for line in lines if (match := re.fullmatch(r"  [\d.]+ to [\d.]+ %: ([\d.]+)", line))]
    assert len(spreads) == 6
    assert all(1.67 * 0.55 < each < 1.67 * 1.45 for each in spreads)
    ends = [100 * expected_curve(each.params)[-1] for each in curves[::3]]
    low, high = re.findall(r"([\d.]+) (?:to|%)", lines[1])
    # Means of three seeds: 1.67 / sqrt(3) = 0.96, and the extreme ones of 64 deviate by 2.4 times as much.
    assert abs(float(low) - min(ends)) < 3
    assert abs(float(high) - max(ends)) < 3
    explained = [float(value) for value in re.findall(r"\d+: ([\d.]+)", lines[10])]
    assert len(explained) == 16
    # The variance of configurations over theirs and one seed's; of the mean of two seeds, half the noise.
    signal, noise = np.var(ends), 1.67**2
    assert explained[-1] == pytest.approx(signal / (signal + noise) * signal / (signal + noise / 2), abs=0.06)
    shares = re.search(r"recorded ([\d.]+), others ([\d.]+)", lines[11])
    assert shares is not None
    assert 0.5 < float(shares[2]) < 1
    assert 0.5 < float(shares[1]) < 1
