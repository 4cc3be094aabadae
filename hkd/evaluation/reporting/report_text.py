"""The metrics of an evaluation as text tables, in per cent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hkd.evaluation.comparison import EvaluationReport
from hkd.evaluation.evaluator import EvaluationResult, SubsetResult
from hkd.text.escaping import printable

NO_VALUE: Final = "-"

_SUBSET_COLUMNS = ["subset", "height (px)", "visibility", "boxes"]


def format_result(result: EvaluationResult) -> str:
    """Each subset's definition, the boxes that count in it and its MR^-2; COCO AP."""
    rows = [[*_SUBSET_COLUMNS, "MR^-2 (%)"]]
    rows += [[*_definition(subset), _percent(subset.log_average_miss_rate)] for subset in result.subsets]
    lines = [f"{result.protocol}: {result.num_images:,} images, {result.num_detections:,} detections"]
    lines += _table(rows, left={0, 1, 2})
    lines.append(_precision(result))
    lines += result.notes
    lines += _warning(result)
    lines += _missing_values(result)
    return "\n".join(printable(line) for line in lines)


def format_report(report: EvaluationReport) -> str:
    """Each subset's definition and every detector's MR^-2 in it; COCO AP; each detector against the first."""
    first = report.detectors[0].result
    num_detectors = len(report.detectors)
    whose = "" if num_detectors > 1 else f", {report.detectors[0].detector.name}: {first.num_detections:,} detections"
    blocks = [[f"{report.protocol}: {first.num_images:,} images{whose}", *_miss_rates(report)], _precisions(report)]
    if report.pairs:
        blocks.append(_comparisons(report))
    if notes := [*_notes(report)]:
        blocks.append(notes)
    return "\n\n".join("\n".join(printable(line) for line in block) for block in blocks)


def _miss_rates(report: EvaluationReport) -> list[str]:
    several = len(report.detectors) > 1
    more = ["detector"] * several + ["MR^-2 (%)"] + [_interval_heading(report)] * (report.resamples > 0)
    rows = [_SUBSET_COLUMNS + more]
    for i, subset in enumerate(report.detectors[0].result.subsets):
        definition = _definition(subset)
        for each in report.detectors:
            row = definition + [each.detector.name] * several
            row.append(_percent(each.result.subsets[i].log_average_miss_rate))
            if each.intervals:
                row.append(_range(each.intervals[i].low, each.intervals[i].high))
            rows.append(row)
            # A subset is described once.
            definition = [""] * len(definition)
    return _table(rows, left={0, 1, 2} | ({4} if several else set()))


def _precisions(report: EvaluationReport) -> list[str]:
    if len(report.detectors) == 1:
        return [_precision(report.detectors[0].result)]
    rows = [["detector", "detections", "AP (%)", "AP50 (%)"]]
    for each in report.detectors:
        found = f"{each.result.num_detections:,}"
        rows.append([each.detector.name, found, _percent(each.result.ap), _percent(each.result.ap50)])
    return [f"COCO AP, {_what_precision_is_over(report.detectors[0].result)}", *_table(rows, left={0})]


def _comparisons(report: EvaluationReport) -> list[str]:
    is_resampled = report.resamples > 0
    more = [_interval_heading(report), "better in (% of resamples)"] * is_resampled
    rows = [["subset", "detector", "difference (points)", *more]]
    for i, subset in enumerate(report.detectors[0].result.subsets):
        name = subset.name
        for pair in report.pairs:
            found = pair.comparisons[i]
            better = found.probability_second_better
            row = [name, pair.second, _points(found.difference)]
            if is_resampled:
                row.append(_range(found.low, found.high, signed=True))
                row.append(NO_VALUE if better is None else f"{100 * better:.1f}")
            rows.append(row)
            name = ""
    which = ", on the same resamples" if is_resampled else ""
    return [
        f"MR^-2 minus that of {report.pairs[0].first}{which} (below 0: better)",
        *_table(rows, left={0, 1}),
    ]


def _notes(report: EvaluationReport) -> Iterator[str]:
    if report.resamples > 0:
        yield f"intervals: percentile bootstrap over images, {report.resamples:,} resamples, seed {report.seed}"
        # The same for all detectors, because it depends on the ground truth only.
        for interval in report.detectors[0].intervals:
            if 0 < interval.resamples_without_value < report.resamples:
                yield (
                    f"{interval.subset}: no ground truth counts in {interval.resamples_without_value:,} resamples, "
                    "which are left out"
                )
    for each in report.detectors:
        if each.detector.height_scale != 1.0:
            yield f"{each.detector.name}: heights are scaled by {each.detector.height_scale:g}"
    # Notes on the ground truth come with every detector's result.
    yield from dict.fromkeys(note for each in report.detectors for note in each.result.notes)
    for each in report.detectors:
        yield from _warning(each.result, f"{each.detector.name}: " if len(report.detectors) > 1 else "")
    yield from _missing_values(report.detectors[0].result)


def _definition(subset: SubsetResult) -> list[str]:
    return [subset.name, str(subset.height_range), str(subset.visibility_range), f"{subset.num_ground_truth:,}"]


def _precision(result: EvaluationResult) -> str:
    return f"COCO AP {_percent(result.ap)} %, AP50 {_percent(result.ap50)} % ({_what_precision_is_over(result)})"


def _what_precision_is_over(result: EvaluationResult) -> str:
    return f"over the {result.num_ground_truth:,} boxes that are not ignored"


def _warning(result: EvaluationResult, prefix: str = "") -> list[str]:
    """A sentence on the subsets whose MR^-2 a point without a miss decides, if there are any."""
    counts = {subset.name: result.points_without_a_miss(subset) for subset in result.subsets}
    affected = [f"{name} ({count} of {len(result.fppi_points)})" for name, count in counts.items() if count > 0]
    if not affected:
        return []
    warning = (
        f"{prefix}MR^-2 is undetermined where no one is missed at some FPPI points, because one of them makes the "
        f"geometric mean 0 or nearly so: {', '.join(affected)}. Evaluate on more than {result.num_images:,} images, or "
        "compare by AP."
    )
    return [warning]


def _missing_values(result: EvaluationResult) -> list[str]:
    missing = result.ap is None or any(subset.log_average_miss_rate is None for subset in result.subsets)
    return [f"{NO_VALUE} no value: no ground-truth box counts"] * missing


def _table(rows: Sequence[Sequence[str]], left: set[int]) -> list[str]:
    """Columns two blanks apart; those in ``left`` are text and left-aligned."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _interval_heading(report: EvaluationReport) -> str:
    return f"{100 * report.confidence:g} % interval"


def _percent(fraction: float | None) -> str:
    return NO_VALUE if fraction is None else f"{100 * fraction:.2f}"


def _points(difference: float | None) -> str:
    return NO_VALUE if difference is None else f"{100 * difference:+.2f}"


def _range(low: float | None, high: float | None, *, signed: bool = False) -> str:
    if low is None or high is None:
        return NO_VALUE
    return f"{_points(low)} to {_points(high)}" if signed else f"{_percent(low)} to {_percent(high)}"
