"""Names of metrics, parameters, tags and files that one package writes and another reads.

Miss rates and average precisions are fractions in [0, 1]; reports show them in per cent.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

MissRateName = Literal["mr2_reasonable", "mr2_small", "mr2_heavy", "mr2_all"]
CostName = Literal["num_params", "flops", "gmacs", "latency_ms"]

MR2_PREFIX: Final = "mr2_"
"""Followed by the name of a protocol's subset."""
MR2_REASONABLE: Final[MissRateName] = "mr2_reasonable"
MR2_SMALL: Final[MissRateName] = "mr2_small"
MR2_HEAVY: Final[MissRateName] = "mr2_heavy"
MR2_ALL: Final[MissRateName] = "mr2_all"
AP: Final = "ap"
"""COCO average precision over IoU 0.50:0.05:0.95."""
AP50: Final = "ap50"
NUM_PARAMS: Final[CostName] = "num_params"
"""Parameters of the deployed student, without adapters and teacher."""
FLOPS: Final[CostName] = "flops"
"""Floating-point operations of the deployed student for one image, 2 per multiply-add."""
GMACS: Final[CostName] = "gmacs"
LATENCY_MS: Final[CostName] = "latency_ms"
"""Median time of the deployed student's network for one image, milliseconds: measured on an untrained network of its
shape, or predicted from measured ones; only where ``evaluation.latency`` asks for it."""
INT8_PREFIX: Final = "int8_"
"""Before the name of a metric that an exported INT8 file states of itself, on the validation images."""
FP32_PREFIX: Final = "fp32_"
"""Before the same metric of the fp32 network, on the same images."""
EPOCH: Final = "epoch"
"""Epochs trained, counted from 1."""
TOTAL_LOSS: Final = "loss_total"
BUDGET_FRACTION: Final = "budget_fraction"
"""Epochs trained over epochs planned, in (0, 1]; 1 = trained to the end."""
SECONDS: Final = "seconds"
"""Time that the steps of an epoch took, without its evaluation."""
PEAK_MEMORY_BYTES: Final = "peak_memory_bytes"
"""Peak memory of a training so far, evaluation included: allocated by torch on a GPU, resident in RAM on a CPU."""
UTILISATION: Final = "utilisation"
"""Share of time in [0, 1] in which the training's CPU threads computed, or in which its GPU did for any process."""

TEST_PREFIX: Final = "test_"
"""Before the name of a metric of the evaluation: measured on the test images, which no search sees."""
CONFIRMED_PREFIX: Final = "confirmed_"
"""Before the name of a miss rate, with or without :data:`TEST_PREFIX`, of a trial that was trained again with other
seeds: the mean over these trainings, without the trial's own. On the run of the trial."""
STD_SUFFIX: Final = "_std"
"""After the name of such a mean: the sample standard deviation over the trainings; absent for a single one."""
CONFIRMED_SEEDS: Final = "confirmed_seeds"
"""Number of these trainings. On the run of the trial."""

BEST_PREFIX: Final = "best_"
"""Before the name of a miss rate, on the parent run: the lowest of the finished trials and baselines so far. The step
of these metrics is :data:`FINISHED_TRIALS`."""
HYPERVOLUME: Final = "hypervolume"
"""On the parent run: share of the box between zero and the reference point (a miss rate of 1, and the teacher's costs
or those of the largest student) that the front so far dominates, in [0, 1]."""
FINISHED_TRIALS: Final = "finished_trials"
"""On the parent run: number of trials and baselines that were trained to their end."""

LABELS_OBJECT_SCORE: Final = "pseudo_labels_object_score"
"""Lowest score of the teacher's detections that count as people on unlabelled images."""
LABELS_IGNORED_SCORE: Final = "pseudo_labels_ignored_score"
"""Lowest score of those that are ignore regions."""
LABELS_PRECISION: Final = "pseudo_labels_precision"
"""Share of people among detections that count as people, on the validation images."""
LABELS_RECALL: Final = "pseudo_labels_recall"
"""Share of people whom these find, on the validation images."""
LABELS_IMAGES: Final = "pseudo_labels_images"
"""Number of unlabelled images."""
LABELS_PEOPLE: Final = "pseudo_labels_people"
LABELS_IGNORED: Final = "pseudo_labels_ignored"
LABELS_EMPTY_IMAGES: Final = "pseudo_labels_empty_images"
"""Number of unlabelled images with neither people nor ignore regions."""

MISS_RATES: Final[tuple[MissRateName, ...]] = get_args(MissRateName)
"""Objectives that a training measures."""
COSTS: Final[tuple[CostName, ...]] = get_args(CostName)
"""Objectives that are known before training."""
DEFAULT_OBJECTIVES: Final = (MR2_REASONABLE, NUM_PARAMS, FLOPS)
"""What a study minimises where its file names no objectives."""
PARAM_OBJECTIVES: Final = "objectives"
"""Parameter of the parent run: the study's objectives, separated by commas."""
PARAM_DISTILLATION: Final = "distillation"
"""Section of the parameters that configures the distillation."""
PARAM_TOTAL_EPOCHS: Final = "training.total_epochs"
"""Parameter of the runs of trials and baselines: epochs planned."""

ARTIFACT_CONFIG: Final = "config.yaml"
"""File of a training's folder, and artifact of a trial's run: the resolved configuration."""
ARTIFACT_WEIGHTS: Final = "student.safetensors"
ARTIFACT_METRICS: Final = "metrics.json"
ARTIFACT_CURVE: Final = "miss_rate_curve.json"
"""Miss rate against FPPI, per subset."""
ARTIFACT_DETECTIONS: Final = "validation_detections.safetensors"
"""Detections on the validation images with their outcomes; see :mod:`hkd.evaluation.formats.stored_detections`."""
ARTIFACT_WEIGHTS_ORIGIN: Final = "weights_origin.txt"
"""What a student's first weights, or a teacher's weights, were read or selected from, left out or changed; a sentence a
line."""

ARTIFACT_CONFIRMATION: Final = "confirmation.json"
"""Artifact of the parent run: the confirmed trials, each with its means, spreads and number of seeds."""

ARTIFACT_REPORT: Final = "report"
"""Folder of the parent run's artifacts: the files of a report."""

TAG_STUDY: Final = "hkd.study"
TAG_ROLE: Final = "hkd.role"
"""``study`` (the parent run), ``teacher``, ``baseline``, ``trial`` or ``confirmation``."""
TAG_TRIAL_ID: Final = "hkd.trial_id"
TAG_BASELINE: Final = "hkd.baseline"
"""Name of the baseline; absent on other trials."""
TAG_CONFIRMS: Final = "hkd.confirms"
"""Trial id of the trial or baseline that a confirmation trains again with another seed; absent on other runs."""
TAG_CONFIRMED_ON: Final = "hkd.confirmed_on"
"""On the parent run of a confirmed study: ``test`` where the trainings with other seeds were evaluated on test images
as well, else ``validation``. The confirmed front is that of the validation images."""
TAG_STATUS: Final = "hkd.status"
"""Of a trial: ``running`` (or interrupted), ``finished``, ``stopped`` (before its planned epochs) or ``failed``. Of the
parent run, ``stopped`` is an interruption."""
TAG_STOPPED_BECAUSE_OF: Final = "hkd.stopped_because_of"
"""Ids of the trials because of which early stopping ended a trial, separated by commas; absent on others."""
TAG_NUM_TRIALS: Final = "hkd.num_trials"
"""``search.num_trials`` of the last start. A tag, because MLflow's parameters cannot change when a study is resumed."""
TAG_ON_FRONT: Final = "hkd.on_front"
"""Of a finished trial or baseline: ``true`` if no other dominates it in the objectives, else ``false``. Changes while
the study runs."""
TAG_ONNX_SHA256: Final = "hkd.onnx_sha256"
"""Of the file that a LoggedModel holds."""
TAG_CARD_SHA256: Final = "hkd.model_card_sha256"
"""Of a version of a registered model: of the description that a report wrote. Another description is a user's."""
TAG_PRECISION: Final = "hkd.precision"
"""Of a LoggedModel: ``fp32`` or ``int8``."""
TAG_HKD_VERSION: Final = "hkd.version"
TAG_TORCH_VERSION: Final = "hkd.torch_version"
TAG_ERROR: Final = "hkd.error"
"""Last line of a failed trial's error; absent on others."""

TEACHER_TRIAL_ID: Final = "teacher"
"""Trial id of the teacher's run."""

ROLE_STUDY: Final = "study"
ROLE_TEACHER: Final = "teacher"
ROLE_BASELINE: Final = "baseline"
ROLE_TRIAL: Final = "trial"
ROLE_CONFIRMATION: Final = "confirmation"
STATUS_RUNNING: Final = "running"
STATUS_FINISHED: Final = "finished"
STATUS_STOPPED: Final = "stopped"
STATUS_FAILED: Final = "failed"

BASELINE_UNDISTILLED: Final = "undistilled"
"""Name of the baseline whose distillation weights are all 0."""
