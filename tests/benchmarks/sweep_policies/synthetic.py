"""Curves with the shape of recorded ones, from a formula."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.sweep_policies.curves import Curve
from benchmarks.sweep_policies.task import Costs, configurations, load_task

EPOCHS = 16


def costs(params: Mapping[str, Any]) -> dict[str, float]:
    """Parameters grow with the square of the widths, FLOPs with the backbone's and the pyramid's alone."""
    backbone = 3e6 * params["student.width_multiplier"] ** 2
    pyramid = 30 * params["student.pyramid_channels"] ** 2
    head = 49 * params["student.pyramid_channels"] * params["student.head_channels"]
    return {"num_params": backbone + pyramid + head, "flops": 400 * backbone + 6000 * pyramid + 50 * head}


def expected_miss_rate(params: Mapping[str, Any]) -> float:
    """After endless training: students of more parameters, and settings near their best value, miss less."""
    capacity = 0.18 * math.log(8e5 / costs(params)["num_params"])
    rate = 0.05 * math.log(params["training.learning_rate"] / 2e-3) ** 2
    weight = 0.015 * math.log(params["distillation.pyramid.weight"] / 3) ** 2
    return 1 / (1 + math.exp(-(-0.8 + capacity + rate + weight)))


def expected_curve(params: Mapping[str, Any]) -> list[float]:
    """After each epoch: an exponential, faster with a higher learning rate."""
    end, speed = expected_miss_rate(params), 2.0 + 1e3 * params["training.learning_rate"]
    return [end + (0.95 - end) * math.exp(-speed * epoch / EPOCHS) for epoch in range(1, EPOCHS + 1)]


def synthetic_curves(count: int, seeds: int = 3, costs: Costs = costs) -> list[Curve]:
    """Trainings of the first configurations of the task; the noise of a seed lasts for some epochs."""
    random = np.random.default_rng(0)
    found = []
    for each in configurations(load_task())[:count]:
        for seed in range(seeds):
            noise = 0.0
            miss_rates = []
            for expected in expected_curve(each.params):
                noise = 0.8 * noise + random.normal(0.0, 0.01)
                miss_rates.append(min(max(expected + noise, 0.01), 1.0))
            of = costs(each.params)
            found.append(
                Curve(
                    each.number,
                    seed,
                    each.params,
                    num_params=round(of["num_params"]),
                    flops=round(of["flops"]),
                    cpu_seconds=10 + of["flops"] / 2e7,
                    miss_rates=tuple(miss_rates),
                )
            )
    return found
