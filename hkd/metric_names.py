"""Names of metrics, parameters and tags that cross a process or a file: one place, so that no two spell them apart.

Miss rates and average precisions are fractions in [0, 1]; reports turn them into per cent.
"""

from __future__ import annotations

from typing import Final

MR2_REASONABLE: Final = "mr2_reasonable"
MR2_SMALL: Final = "mr2_small"
MR2_HEAVY: Final = "mr2_heavy"
MR2_ALL: Final = "mr2_all"
AP: Final = "ap"
"""COCO average precision over IoU 0.50:0.05:0.95."""
AP50: Final = "ap50"
NUM_PARAMS: Final = "num_params"
"""Parameters of the deployed student; adapters and teacher are left out."""
FLOPS: Final = "flops"
"""Floating-point operations of one image through the deployed student, 2 a multiply-add."""
GMACS: Final = "gmacs"
EPOCH: Final = "epoch"
"""Epochs finished, counted from 1."""
TOTAL_LOSS: Final = "loss_total"
BUDGET_FRACTION: Final = "budget_fraction"
"""Epochs trained over epochs planned, in (0, 1]; 1 = trained to the end."""
PEAK_MEMORY_BYTES: Final = "peak_memory_bytes"
"""The most memory a training has used so far, evaluation included: allocated by torch on its GPU; on a CPU, resident of
its process."""
UTILISATION: Final = "utilisation"
"""Share of time in which the device computed, in [0, 1]: of its CPU threads, or of its GPU (for whichever process)."""

OBJECTIVES: Final = (MR2_REASONABLE, NUM_PARAMS, FLOPS)
"""What a study minimises unless told otherwise."""

TAG_STUDY: Final = "hkd.study"
TAG_ROLE: Final = "hkd.role"
"""``study`` (the parent run), ``teacher``, ``baseline`` or ``trial``."""
TAG_TRIAL_ID: Final = "hkd.trial_id"
TAG_BASELINE: Final = "hkd.baseline"
"""Name of the baseline (``undistilled``, ``default-weights``); absent on other trials."""
TAG_STATUS: Final = "hkd.status"
"""``running``, ``finished``, ``stopped`` (before its planned epochs) or ``failed``."""
TAG_NUM_TRIALS: Final = "hkd.num_trials"
"""Proposed trials last asked for. A tag, because MLflow's parameters cannot be changed when a study is resumed."""
TAG_ERROR: Final = "hkd.error"
"""Last line of what broke a failed trial; absent on others."""

TEACHER_TRIAL_ID: Final = "teacher"
"""Trial id of the teacher's run."""

ROLE_STUDY: Final = "study"
ROLE_TEACHER: Final = "teacher"
ROLE_BASELINE: Final = "baseline"
ROLE_TRIAL: Final = "trial"
STATUS_RUNNING: Final = "running"
STATUS_FINISHED: Final = "finished"
STATUS_STOPPED: Final = "stopped"
STATUS_FAILED: Final = "failed"
