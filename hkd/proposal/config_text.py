"""The commented YAML files of a first training and study."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.metric_names import MR2_PREFIX
from hkd.proposal.anchors import GROWTH_RANGE
from hkd.proposal.input_size import DETECTABLE_HEIGHT
from hkd.proposal.report_text import limit_sentence
from hkd.proposal.settings import FEW_IMAGES, Proposal, Schedule

TRAIN_CONFIG = "train.yaml"
STUDY_CONFIG = "study.yaml"
_COLUMNS = 100

_SPACE = """\
space:
  # How large the student is ...
  student.width_multiplier: {type: float, low: 0.125, high: 0.5, step: 0.125}
  student.pyramid_channels: {type: int, low: 24, high: 64, step: 8}
  student.head_channels: {type: int, low: 64, high: 160, step: 32}
  # ... and how it learns from its teacher.
  distillation.pyramid.weight: {type: float, low: 0.3, high: 10.0, log: true}
  distillation.region.weight: {type: float, low: 0.3, high: 10.0, log: true}
  distillation.logits.weight: {type: float, low: 0.3, high: 3.0, log: true}
  distillation.logits.temperature: {type: float, low: 1.0, high: 4.0}
"""


@dataclass(frozen=True)
class DataFiles:
    """What a training reads; paths are written as given."""

    train: Path
    validation: Path
    image_root: Path
    max_megapixels: float
    split_rule: str


def train_config_text(proposal: Proposal, data: DataFiles) -> str:
    """``train.yaml``: one student with its teacher."""
    header = _comment(
        "A student with its teacher, proposed by `hkd init`. Comments state the measurements that the values follow"
        " from. Paths are relative to the folder in which the commands are run. Settings that are not named have their"
        " defaults (hkd/config/)."
    )
    most_people = proposal.survey.most_people
    sections = (
        [header],
        _data_section(proposal, data),
        _teacher_section(proposal),
        _student_section(proposal),
        [
            _comment("Stages at which the student is compared with its teacher; a weight of 0 disables a stage."),
            "distillation:",
            "  pyramid: {loss: pearson, weight: 1.0}",
            "  region: {loss: pearson, weight: 1.0}",
            "  logits: {loss: kl, weight: 1.0, temperature: 2.0}",
        ],
        _training(proposal.student, proposal.batch_size),
        [
            "evaluation:",
            f"  batch_size: {proposal.evaluation_batch_size}",
            f"  max_detections_per_image: {proposal.max_detections_per_image} # most people: {most_people}",
        ],
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def study_config_text(proposal: Proposal, name: str) -> str:
    """``study.yaml``: a search around ``train.yaml`` in the same folder."""
    subset = proposal.objective.removeprefix(MR2_PREFIX)
    sections = (
        [
            _comment("A search for the best light students, proposed by `hkd init`."),
            _comment("Name of the study, of its folder below runs/ and of its MLflow experiment."),
            f"name: {name}",
            _comment("The configuration that is varied; the path is relative to this file."),
            f"base: {TRAIN_CONFIG}",
        ],
        [
            _comment("Settings of the base and their ranges; both ends are validated before the first trial."),
            _SPACE.rstrip(),
        ],
        [
            _comment(
                f"All are minimised together. {proposal.objective} is the miss rate of the subset {subset}, which has"
                f" {proposal.objective_people:,} people in the validation images."
            ),
            f"objectives: [{proposal.objective}, num_params, flops]",
        ],
        [
            "search:",
            "  sampler: front # or tpe, nsga2, gp, random",
            _comment(
                "Besides two baselines: distilled with train.yaml as it is, and undistilled. A larger number continues"
                " a finished study (--resume).",
                2,
            ),
            "  num_trials: 12",
            "  startup_trials: 6",
        ],
        [
            "resources:",
            "  cpus_per_trial: 1",
            "  gpus_per_trial: auto # as many trials share a GPU as its memory allows; 0 without GPUs",
        ],
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _data_section(proposal: Proposal, data: DataFiles) -> list[str]:
    low, middle, high = proposal.resized_heights
    size = proposal.input_size
    lines = [
        "data:",
        _comment(f"The split: {data.split_rule}.", 2),
        f"  train_annotations: {_text(data.train)} # {proposal.num_train_images:,} images",
        f"  validation_annotations: {_text(data.validation)} # {proposal.num_validation_images:,} images",
        f"  image_root: {_text(data.image_root)}",
        _comment(
            f"Size of the network's input, pixels, multiples of 32: {limit_sentence(proposal)}. The median image is"
            f" resized by {size.image_scale:.2f}. People are then {low:.0f}, {middle:.0f} and {high:.0f} px high (10th,"
            f" 50th and 90th percentile); one of {DETECTABLE_HEIGHT:.0f} px covers 12 x 5 cells at stride 4. Time and"
            " memory are proportional to the pixels. `hkd init --input-size` proposes the anchors for another size.",
            2,
        ),
        f"  image_height: {size.height}",
        f"  image_width: {size.width}",
        _comment(
            f"Slots for the boxes of an image; the fullest has {proposal.survey.fullest_image_boxes} boxes. An image"
            " with more boxes than slots is an error.",
            2,
        ),
        f"  max_objects_per_image: {proposal.max_objects_per_image}",
    ]
    if data.max_megapixels != DEFAULT_MAX_MEGAPIXELS:
        lines.append(f"  max_megapixels: {data.max_megapixels:g}")
    if proposal.few_images:
        lines += [
            _comment("Scenes for the pretraining of the teacher.", 2),
            "  synthetic: {train_images: 400, validation_images: 120}",
        ]
    return lines


def _teacher_section(proposal: Proposal) -> list[str]:
    few = proposal.few_images
    backbone, width, pyramid, head = ("resnet18", 0.75, 96, 256) if few else ("resnet34", 1.0, 128, 256)
    lines = [
        _comment(
            "The detector that students learn from, trained once before them. `checkpoint` names a trained one instead,"
            " with its architecture. `torchvision: FILE` names torchvision's COCO detector and replaces the whole"
            " section; it is a ResNet-50, so that student.init_from must then be null (or see docs/weights.md)."
        ),
        "teacher:",
    ]
    if few:
        lines.append(
            _comment(
                f"Small, and pretrained on generated scenes: {proposal.num_train_images:,} training images are too few"
                f" for random first weights (limit: {FEW_IMAGES:,}).",
                2,
            )
        )
    lines += [
        f"  backbone: {backbone}",
        f"  width_multiplier: {width}",
        f"  pyramid_channels: {pyramid}",
        f"  head_channels: {head}",
        *_anchors(proposal),
    ]
    if few:
        lines += [
            "  init_from_synthetic:",
            "    total_epochs: 10",
            f"    batch_size: {proposal.batch_size}",
            f"    learning_rate: {proposal.teacher.learning_rate:g}",
            "    evaluate_every_epochs: 5",
        ]
    return lines + [f"  {line}" for line in _training(proposal.teacher, proposal.batch_size)]


def _student_section(proposal: Proposal) -> list[str]:
    return [
        "student:",
        _comment(
            "First weights: selected from the teacher's channels and fitted to its outputs; null: random. The teacher"
            " must be a ResNet-18 or 34, at least as wide, with as many aspect ratios.",
            2,
        ),
        "  init_from: teacher",
        _comment("The settings that determine the student's size; the study varies the last three.", 2),
        "  backbone: resnet18",
        "  width_multiplier: 0.25",
        "  pyramid_channels: 48",
        "  head_channels: 96",
        *_anchors(proposal),
    ]


def _anchors(proposal: Proposal) -> list[str]:
    anchors = proposal.anchors
    ratios = "the boxes' median" if len(anchors.aspect_ratios) == 1 else "medians of three thirds of the boxes"
    slowest, fastest = GROWTH_RANGE
    return [
        _comment(
            "Square roots of the anchors' areas at p2..p6, pixels of the network's input: at p2 the 10th percentile of"
            f" the boxes, then {slowest:g} to {fastest:g} times as large at each level. Height / width: {ratios}.",
            2,
        ),
        f"  anchor_sizes: {_numbers(anchors.sizes)}",
        f"  anchor_aspect_ratios: {_numbers(anchors.aspect_ratios)}",
        _comment(f"At least twice the people of an image (most: {proposal.survey.most_people}).", 2),
        f"  proposals_per_image: {proposal.proposals_per_image}",
    ]


def _training(schedule: Schedule, batch_size: int) -> list[str]:
    return [
        "training:",
        f"  total_epochs: {schedule.total_epochs} # {schedule.steps:,} steps",
        f"  batch_size: {batch_size}",
        f"  learning_rate: {schedule.learning_rate:g}",
        f"  evaluate_every_epochs: {schedule.evaluate_every_epochs}",
    ]


def _comment(text: str, indent: int = 0) -> str:
    prefix = " " * indent + "# "
    return textwrap.fill(
        text, _COLUMNS, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False, break_long_words=False
    )


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"


def _text(path: Path) -> str:
    """A path as a YAML scalar."""
    text = path.as_posix()
    return text if re.fullmatch(r"[A-Za-z/][\w.-]*/[\w./-]*", text, re.ASCII) else json.dumps(text)
