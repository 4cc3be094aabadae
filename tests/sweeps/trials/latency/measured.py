"""Invented files of measurements."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hkd.config import DetectorConfig
from hkd.models.cost import config_cost


def invented_ms(detector: DetectorConfig, height: int, width: int) -> float:
    """1 ms, and 10 for each GFLOP."""
    return 1.0 + 10 * config_cost(detector, height, width).gmacs * 2


def write_table(
    path: Path,
    detectors: Sequence[DetectorConfig],
    height: int,
    width: int,
    *,
    runtime: str = "onnxruntime",
    factor: float = 1.0,
) -> Path:
    """As a hand writes it: what is required, and no more."""
    rows: list[dict[str, Any]] = [
        {
            "runtime": runtime,
            "input_size": [height, width],
            "network": {"median_ms": factor * invented_ms(each, height, width)},
            "detector": each.model_dump(mode="json"),
        }
        for each in detectors
    ]
    path.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    return path
