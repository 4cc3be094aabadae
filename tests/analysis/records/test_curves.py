from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from analysis.records.curves import MOST_POINTS, parse_curve, read_curves
from tests.analysis.studies import Written, write_study


def content(**subsets: object) -> bytes:
    return json.dumps(subsets).encode()


def test_curve_of_subset_is_read_in_order() -> None:
    stored = content(reasonable={"fppi": [0.1, 0.01], "miss_rate": [0.2, 0.5]}, all={"fppi": [1], "miss_rate": [0.9]})
    assert parse_curve(stored, "reasonable") == ((0.01, 0.5), (0.1, 0.2))
    assert parse_curve(stored, "small") == ()


def test_long_curve_is_thinned_and_keeps_its_ends() -> None:
    fppi = [10 ** (-2 + 3 * index / 999) for index in range(1000)]
    rates = [1 - index / 1000 for index in range(1000)]
    curve = parse_curve(content(reasonable={"fppi": fppi, "miss_rate": rates}), "reasonable")
    assert MOST_POINTS - 1 <= len(curve) <= MOST_POINTS + 1
    assert (curve[0], curve[-1]) == ((fppi[0], rates[0]), (fppi[-1], rates[-1]))
    # Evenly on a logarithmic axis.
    steps = [math.log(b[0] / a[0]) for a, b in itertools.pairwise(curve)]
    assert max(steps) < 3 * math.log(10) / (MOST_POINTS - 1) * 1.1


@pytest.mark.parametrize(
    "stored",
    [
        b"not JSON",
        b"[" * 100_000,
        content(reasonable={"fppi": [1], "miss_rate": []}),
        content(reasonable={"fppi": 3, "miss_rate": 4}),
    ],
    ids=["text", "depth", "lengths", "types"],
)
def test_damaged_curves_are_errors(stored: bytes) -> None:
    with pytest.raises(ValueError, match=r"Expecting value|nested too deeply|lists of one length"):
        parse_curve(stored, "reasonable")


def test_values_that_are_no_points_are_left_out() -> None:
    stored = b'{"reasonable": {"fppi": [0, NaN, "x", 1, 2, 3], "miss_rate": [0.5, 0.5, 0.5, 2, null, 0.25]}}'
    assert parse_curve(stored, "reasonable") == ((3.0, 0.25),)


def test_curves_of_runs_that_have_one(client: MlflowClient, database: Path, tmp_path: Path) -> None:
    experiment = client.create_experiment("other", artifact_location=(tmp_path / "artifacts").as_uri())
    write_study(client, "demo", [Written("t0")])
    whole, damaged, without = (client.create_run(experiment).info.run_id for _ in range(3))
    client.log_text(whole, content(reasonable={"fppi": [0.1], "miss_rate": [0.2]}).decode(), "miss_rate_curve.json")
    client.log_text(damaged, "{", "miss_rate_curve.json")
    found = read_curves(f"sqlite:///{database}", [whole, damaged, without, "unknown"], "reasonable")
    assert found == {whole: ((0.1, 0.2),)}
