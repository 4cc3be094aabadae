"""The survey and the proposal as text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hkd.coco.notes import Note
from hkd.metric_names import MR2_PREFIX, MR2_REASONABLE
from hkd.proposal.input_size import DETECTABLE_HEIGHT, TINY_HEIGHT
from hkd.proposal.settings import Proposal
from hkd.proposal.survey import QUANTILES, Survey
from hkd.text.escaping import printable

_LABEL_COLUMNS = 15
_FEW_VALIDATION_IMAGES, _FEW_COUNTED_PEOPLE = 50, 100


def report_text(proposal: Proposal, image_root: Path, split_rule: str, notes: Sequence[Note]) -> str:
    """What was read, what it means for the settings, and what may make a study useless."""
    numbers = f"{proposal.num_train_images:,} training and {proposal.num_validation_images:,} validation images"
    found = [("images in", f"'{image_root}'"), *_survey_rows(proposal.survey)]
    proposed = [("split", f"{numbers}: {split_rule}"), *_proposal_rows(proposal)]
    lines = ["found:", *_table(found)]
    if notes:
        lines += ["left out or changed:", *_bullets([str(note) for note in notes])]
    lines += ["proposed:", *_table(proposed)]
    if warnings := warning_sentences(proposal):
        lines += ["to consider:", *_bullets(warnings)]
    return "\n".join(lines)


def limit_sentence(proposal: Proposal) -> str:
    """Why the network's input has its size."""
    size = proposal.input_size
    people = f"10 % of the people that {proposal.objective} counts are lower than {size.low_height:.0f} px"
    return {
        "people": f"the smallest at which only {people} (limit: {DETECTABLE_HEIGHT:.0f} px)",
        "images": f"that of the images, because enlarging adds no detail; {people}",
        "memory": f"the largest of about one megapixel; {people}",
        "given": f"as given; {people}",
    }[size.limit]


def warning_sentences(proposal: Proposal) -> list[str]:
    """What may make the numbers of a first study useless."""
    survey, size = proposal.survey, proposal.input_size
    sentences: list[str] = []
    if proposal.num_tiny:
        remedy = "" if size.limit == "images" else "; a larger input shows more of them (--input-size)"
        sentences.append(
            f"{proposal.num_tiny:,} of {survey.num_people:,} people ({_percent(proposal.num_tiny, survey.num_people)})"
            f" are lower than {TINY_HEIGHT:.0f} px after resizing and hardly detectable{remedy}"
        )
    if proposal.objective != MR2_REASONABLE:
        counted = survey.num_by_subset[proposal.objective.removeprefix(MR2_PREFIX)]
        sentences.append(
            f"only {_percent(survey.num_by_subset['reasonable'], survey.num_people)} of the people are reasonable: the"
            f" study minimises {proposal.objective}, which counts {_percent(counted, survey.num_people)}"
        )
    if proposal.objective_people < _FEW_COUNTED_PEOPLE or proposal.num_validation_images < _FEW_VALIDATION_IMAGES:
        sentences.append(
            f"{proposal.num_validation_images:,} validation images with {proposal.objective_people:,} people that count"
            " rank students only roughly: differences of several points of MR^-2 are noise"
        )
    return sentences


def _survey_rows(survey: Survey) -> list[tuple[str, str]]:
    widths, heights = survey.width_range, survey.height_range
    sizes = ", ".join(f"{width} x {height} ({count:,})" for width, height, count in survey.image_sizes)
    if others := survey.num_image_sizes - len(survey.image_sizes):
        sizes += f" and {others:,} more, {widths[0]} to {widths[1]} wide and {heights[0]} to {heights[1]} high"
    reasonable, small, all_ = (
        _percent(survey.num_by_subset[name], survey.num_people) for name in ("reasonable", "small", "all")
    )
    evaluated = (
        f"{reasonable} reasonable (50 px and more, at most 35 % occluded), {small} small (50 to 75 px),"
        f" {all_} all (20 px and more)"
    )
    return [
        ("images", f"{survey.num_images:,}, {survey.num_images_with_people:,} of them with people"),
        ("image sizes", f"{sizes} (width x height)"),
        ("boxes", f"{survey.num_people:,} people, {survey.num_ignored:,} ignored{_labels(survey)}"),
        ("fullest image", f"{survey.fullest_image_boxes} boxes ('{survey.fullest_image}')"),
        ("", " ".join(f"{_quantile_name(percent):>7}" for percent in QUANTILES)),
        ("height, px", " ".join(f"{value:7.0f}" for value in survey.box_heights)),
        ("width / height", " ".join(f"{value:7.2f}" for value in survey.box_aspects)),
        ("evaluated", evaluated),
    ]


def _proposal_rows(proposal: Proposal) -> list[tuple[str, str]]:
    size, anchors, student = proposal.input_size, proposal.anchors, proposal.student
    low, middle, high = proposal.resized_heights
    return [
        ("network input", f"{size.width} x {size.height}: {limit_sentence(proposal)}"),
        ("", f"people are then {low:.0f}, {middle:.0f} and {high:.0f} px high (10th, 50th and 90th percentile)"),
        ("anchors", f"{_listed(anchors.sizes)} px at p2 to p6, height / width {_listed(anchors.aspect_ratios)}"),
        ("objective", f"{proposal.objective}: {proposal.objective_people:,} people of the validation images"),
        ("box slots", f"{proposal.max_objects_per_image} per image"),
        ("training", f"{student.total_epochs} epochs in batches of {proposal.batch_size}: {student.steps:,} steps"),
        ("", f"the teacher {proposal.teacher.total_epochs} epochs: {proposal.teacher.steps:,} steps"),
    ]


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [printable(f"  {label:<{_LABEL_COLUMNS}}{value}") for label, value in rows]


def _bullets(sentences: Sequence[str]) -> list[str]:
    return [printable(f"  - {sentence}") for sentence in sentences]


def _labels(survey: Survey) -> str:
    named = [f"{count:,} {label}" for label, count in survey.ignored_by_label.items() if label]
    return f" ({', '.join(named[:5])}{' ...' if len(named) > 5 else ''})" if named else ""


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _percent(count: int, total: int) -> str:
    share = 100 * count / total
    return f"{share:.1f} %" if 0 < share < 10 else f"{share:.0f} %"


def _quantile_name(percent: int) -> str:
    return {0: "min", 50: "median", 100: "max"}.get(percent, f"{percent} %")
