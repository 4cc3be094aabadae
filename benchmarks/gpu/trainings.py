"""hkd's own :class:`~hkd.training.trainer.Trainer` on images in memory, as ``gpus_per_trial: auto`` measures it."""

from __future__ import annotations

from functools import cached_property

from benchmarks.step.contenders import Contenders
from benchmarks.step.hkd_trainer import store_in_memory
from benchmarks.step.workload import Workload
from hkd.data.prepare import PreparedData
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.training.trainer import Trainer


class Trainings:
    """Builds trainings of the workload, which share their images and their teacher."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    @cached_property
    def data(self) -> PreparedData:
        """The benchmarks' images, for training and validation."""
        store, annotations = store_in_memory(Contenders(self.workload).pictures)
        return PreparedData(annotations, annotations, store, store, self.workload.config.data)

    @cached_property
    def teacher(self) -> Detector:
        """With random weights, on the CPU."""
        return build_detector(self.workload.teacher).requires_grad_(False).eval()

    def make(
        self, *, is_distilled: bool = True, batch_size: int | None = None, evaluation_batch_size: int | None = None
    ) -> Trainer:
        """A new training; None keeps the workload's batch size and the default of the evaluation's."""
        config = self.workload.config
        training, evaluation = config.training, config.evaluation
        if batch_size is not None:
            training = training.model_copy(update={"batch_size": batch_size})
        if evaluation_batch_size is not None:
            evaluation = evaluation.model_copy(update={"batch_size": evaluation_batch_size})
        teacher_config = config.teacher if is_distilled else None
        config = config.model_copy(update={"teacher": teacher_config, "training": training, "evaluation": evaluation})
        return Trainer(config, self.data, self.teacher if is_distilled else None, device=self.workload.device)
