"""What the student of a trial costs; known before it is trained."""

from __future__ import annotations

from dataclasses import dataclass

from hkd.config import DetectorConfig, TrialConfig
from hkd.metric_names import LATENCY_MS
from hkd.models.cost import Cost, config_cost
from sweeps.trials.latency.table import latency_model


@dataclass(frozen=True)
class TimedCost(Cost):
    """Parameters, operations and latency."""

    latency_ms: float

    def as_metrics(self) -> dict[str, float]:
        """The costs by metric name."""
        return {**super().as_metrics(), LATENCY_MS: self.latency_ms}


def student_cost(config: TrialConfig) -> Cost:
    """Cost of a trial's student at the size of its images."""
    return cost_in(config, config.student)


def cost_in(config: TrialConfig, detector: DetectorConfig) -> Cost:
    """Cost of a detector at the size of a trial's images."""
    cost = config_cost(detector, config.data.image_height, config.data.image_width)
    return with_latency(cost, config, detector)


def with_latency(cost: Cost, config: TrialConfig, detector: DetectorConfig) -> Cost:
    """A cost with the latency of the detector, if ``evaluation.latency`` has a table: a study sets that to its own."""
    latency, data = config.evaluation.latency, config.data
    if latency is None or latency.table is None:
        return cost
    model = latency_model(latency, data.image_height, data.image_width)
    return TimedCost(cost.num_params, cost.flops, model.milliseconds(detector))
