"""The table of reference numbers in docs/evaluation.md equals the references of the other tests in this folder."""

from __future__ import annotations

from pathlib import Path

from tests.golden.test_caltech_miss_rates import ACF_BY_ACF_TEST, HOG_BY_DBEVAL
from tests.golden.test_citypersons_miss_rates import BY_THE_SCRIPT


def test_guide_states_every_reference_number_and_ours() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    _, heading, below = guide.partition("| protocol | detections | subset | boxes | reference | hkd |\n")
    assert heading
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in below.partition("\n\n")[0].splitlines()[1:]]
    found = [(subset, float(reference)) for _, _, subset, _, reference, _ in rows]
    by_script = [(subset, value) for numbers in BY_THE_SCRIPT.values() for subset, value in numbers.items()]
    counted = [*HOG_BY_DBEVAL.items(), *ACF_BY_ACF_TEST.items()]
    assert found == by_script + [(subset, value) for subset, (value, _) in counted]
    assert len(rows) == 17
    # What those tests hold ours to.
    assert all(abs(float(ours) - float(reference)) <= 1e-9 for *_, reference, ours in rows)
    boxes = [int(row[3].replace(",", "")) for row in rows]
    assert boxes[8:] == [num_boxes for _, (_, num_boxes) in counted]
