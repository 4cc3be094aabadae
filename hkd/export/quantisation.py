"""Static quantisation of an exported detector to INT8, with a limit on the miss rate that it costs.

Convolutions and fully connected layers compute in INT8 (QDQ format of ONNX: weights per channel, activations with the
ranges of calibration images). The outputs of RPN and box head, and all that follows from them, stay in fp32.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import onnx
import torch

from hkd.coco.annotations import Annotations, without_boxes
from hkd.coco.images import ImageRecord
from hkd.coco.notes import counted
from hkd.config import EvaluationConfig
from hkd.data.conversion.progress import track_progress
from hkd.data.copies import describe_copies, equal_files, image_paths
from hkd.data.store import ImageStore, open_store
from hkd.evaluation.evaluator import evaluate_boxes
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.export.layers import LAYERS
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.inference.deployed.detector import DeployedDetector, mark_black_borders
from hkd.inference.deployed.metadata import INPUT, PROPERTY, DeployedMetadata, ImageSet, Int8Images
from hkd.inference.deployed.onnx_file import DeployedFile
from hkd.inference.deployed.packages import required_package
from hkd.inference.deployed.runtimes import Pixels
from hkd.inference.store_detection import detect_store
from hkd.metric_names import FP32_PREFIX, INT8_PREFIX, MR2_REASONABLE
from hkd.text.escaping import LinesError, printable

DEFAULT_MAX_DROP: Final = 1.0
"""Points of MR^-2, in per cent."""
CALIBRATION_IMAGES: Final = 128
_OPERATORS: Final = ("Conv", "Gemm", "Add", "MaxPool", "Relu", "Resize")


class QuantisationError(LinesError):
    """The images do not fit, or no INT8 detector keeps the miss rate within the limit. Each problem is a line."""


@dataclass(frozen=True)
class QuantisedModel:
    """An INT8 graph, and what it costs."""

    model: onnx.ModelProto
    metadata: DeployedMetadata
    miss_rate: float
    """MR^-2 reasonable of the INT8 graph on the validation images, a fraction."""
    fp32_miss_rate: float


def quantise(
    model: onnx.ModelProto,
    metadata: DeployedMetadata,
    calibration: Annotations,
    validation: Annotations,
    *,
    max_drop: float = DEFAULT_MAX_DROP,
    evaluation: EvaluationConfig | None = None,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    compared_with_training: bool = False,
    progress: bool = False,
) -> QuantisedModel:
    """Quantise a graph of :func:`hkd.export.onnx_export.detector_model`.

    As long as MR^-2 on the validation images rises by more than ``max_drop``, the part of the network whose return to
    fp32 lowers it most returns.

    Args:
        model: the fp32 graph.
        metadata: its metadata.
        calibration: training images; evenly spaced ones are used, 128 at most.
        validation: annotated images, none of which is a calibration image.
        max_drop: largest rise of MR^-2 reasonable, in points of per cent.
        evaluation: protocol and batch size.
        max_megapixels: largest number of pixels of an image, in millions.
        compared_with_training: whether calibration images are known to be training images, and validation images not;
            the metadata states it.
        progress: show progress bars on stderr.

    Raises:
        QuantisationError: a calibration image is a validation image, MR^-2 has no value on the validation images, or
            even with all parts but one in fp32 the limit does not hold.
        AnnotationError: images cannot be read.
    """
    _require_other_images(calibration, validation)
    evaluation = (evaluation or EvaluationConfig()).model_copy(
        update={"max_detections_per_image": metadata.max_detections}
    )
    size = (metadata.image_height, metadata.image_width)
    with TemporaryDirectory(prefix="hkd-int8-") as folder:
        store = open_store(validation, *size, Path(folder), progress=progress, max_megapixels=max_megapixels)

        def miss_rate(candidate: onnx.ModelProto) -> float:
            return _miss_rate(candidate, metadata, validation, store, evaluation)

        fp32 = miss_rate(model)
        inputs = _inputs(calibration, metadata, Path(folder), max_megapixels)
        ranges = _ranges(model, track_progress(inputs, "Calibrating INT8", shown=progress), Path(folder))
        limit = fp32 + max_drop / 100
        parts = _parts(model)
        left, quantised, found = _search(
            lambda names: _quantised(model, ranges, parts, names), miss_rate, list(parts), limit, progress
        )
    if found > limit:
        raise QuantisationError(
            f"INT8 costs {100 * (found - fp32):.2f} points of MR^-2 ({100 * fp32:.2f} to {100 * found:.2f} %) even "
            f"with {', '.join(left)} in fp32; the limit is --max-drop {max_drop:g}. Allow more, export without --int8, "
            "or calibrate with more images like those of validation"
        )
    described = metadata.model_copy(
        update={
            "precision": "int8",
            "fp32_layers": tuple(left),
            "versions": {**metadata.versions, "onnxruntime": required_package("onnxruntime").__version__},
            "int8_images": Int8Images(
                calibration=_described(calibration),
                num_calibrated=len(_spaced(calibration)),
                validation=_described(validation),
                compared_with_training=compared_with_training,
            ),
            "metrics": {**metadata.metrics, INT8_PREFIX + MR2_REASONABLE: found, FP32_PREFIX + MR2_REASONABLE: fp32},
        }
    )
    onnx.helper.set_model_props(quantised, {PROPERTY: described.to_json()})
    return QuantisedModel(quantised, described, found, fp32)


def _described(images: Annotations) -> ImageSet:
    # Escaped, because names of files that are not Unicode cannot be read from JSON.
    name = "unnamed" if images.path is None else printable(images.path.name)
    return ImageSet(annotations=name, num_images=len(images.images), content_hash=images.content_hash())


def _spaced(calibration: Annotations) -> list[ImageRecord]:
    """The evenly spaced images that calibrate."""
    count = min(CALIBRATION_IMAGES, len(calibration.images))
    return [calibration.images[index * len(calibration.images) // count] for index in range(count)]


def _require_other_images(calibration: Annotations, validation: Annotations) -> None:
    copies = equal_files(image_paths(calibration), image_paths(validation))
    if copies:
        raise QuantisationError(
            f"--calibration: {counted(len(copies), 'image')} of --validation: {describe_copies(copies)}. INT8 "
            "costs less on images of its calibration than on others: give --calibration the annotation file of "
            "the training images"
        )


def _search(
    quantised: Callable[[Sequence[str]], onnx.ModelProto],
    miss_rate: Callable[[onnx.ModelProto], float],
    parts: list[str],
    limit: float,
    progress: bool,
) -> tuple[list[str], onnx.ModelProto, float]:
    """Parts left in fp32, the graph and its miss rate: the first within the limit, or the last that was tried."""
    left: list[str] = []
    model = quantised(left)
    found = miss_rate(model)
    while found > limit and len(left) < len(parts) - 1:
        tried = []
        rest = [part for part in parts if part not in left]
        title = f"MR^-2 {100 * found:.2f} % (limit {100 * limit:.2f}): one more part in fp32"
        for part in track_progress(rest, title, shown=progress):
            candidate = quantised([*left, part])
            tried.append((miss_rate(candidate), part, candidate))
        found, part, model = min(tried, key=lambda one: one[0])
        left.append(part)
    return left, model, found


def _parts(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Names of the nodes that are quantised, by the part of the network that they belong to."""
    parts: dict[str, list[str]] = {}
    for node in model.graph.node:
        scope = node.name.rpartition("/")[0]
        if node.op_type in _OPERATORS and node.name.startswith(LAYERS):
            parts.setdefault(scope, []).append(node.name)
    # The outputs stay in fp32: the RPN's 1x1 convolutions and the last product of the box head.
    parts["rpn"] = [name for name in parts["rpn"] if not _is_output(model, name)]
    parts["box_head"] = [name for name in parts["box_head"] if not _is_output(model, name)]
    return parts


def _is_output(model: onnx.ModelProto, name: str) -> bool:
    """Whether a node's result is read by nodes that are no layers."""
    readers = [node for node in model.graph.node if name in node.input]
    return all(node.op_type not in _OPERATORS for node in readers)


def _ranges(model: onnx.ModelProto, inputs: Iterable[Pixels], folder: Path) -> Any:
    """Smallest and largest values of all activations of the layers, on the calibration images."""
    calibrate = required_package("onnxruntime.quantization.calibrate")
    path = folder / "fp32.onnx"
    path.write_bytes(model.SerializeToString())
    calibrator = calibrate.create_calibrator(path, _OPERATORS, str(folder / "calibration.onnx"))
    batches = iter(inputs)

    class Reader(calibrate.CalibrationDataReader):  # type: ignore[misc, name-defined]
        # A method of ONNX Runtime's interface.
        def get_next(self) -> dict[str, Pixels] | None:
            batch = next(batches, None)
            return None if batch is None else {INPUT: batch}

    calibrator.collect_data(Reader())
    return calibrator.compute_data()


def _quantised(
    model: onnx.ModelProto, ranges: Any, parts: dict[str, list[str]], left: Sequence[str]
) -> onnx.ModelProto:
    quantization = required_package("onnxruntime.quantization")
    quantizer = required_package("onnxruntime.quantization.qdq_quantizer").QDQQuantizer(
        onnx.load_model_from_string(model.SerializeToString()),
        per_channel=True,
        reduce_range=False,
        weight_qType=quantization.QuantType.QInt8,
        activation_qType=quantization.QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[name for part, names in parts.items() if part not in left for name in names],
        nodes_to_exclude=[],
        op_types_to_quantize=list(_OPERATORS),
        extra_options={},
    )
    # It warns of every constant that it does not quantise.
    logging.disable(logging.WARNING)
    try:
        quantizer.quantize_model()
    finally:
        logging.disable(logging.NOTSET)
    # The quantizer appends nodes at the end, but a valid file has each node after those that it reads.
    quantizer.model.topological_sort()
    quantised: onnx.ModelProto = quantizer.model.model
    quantised.ir_version, quantised.producer_name = model.ir_version, model.producer_name
    return quantised


def _inputs(calibration: Annotations, metadata: DeployedMetadata, folder: Path, max_megapixels: float) -> list[Pixels]:
    """Batches (N, 3, H, W) of the images that calibrate, which alone are decoded."""
    spaced = _spaced(calibration)
    store = open_store(
        without_boxes(spaced, calibration.image_root, calibration.path),
        metadata.image_height,
        metadata.image_width,
        folder,
        progress=False,
        max_megapixels=max_megapixels,
    )
    # A batch is filled by repetition: no image of zeros is among the ranges.
    chosen = np.resize(np.arange(len(spaced)), -(-len(spaced) // metadata.batch) * metadata.batch)
    pixels = np.ascontiguousarray(store.images[chosen].transpose(0, 3, 1, 2))
    marked = mark_black_borders(pixels, store.valid_sizes[chosen])
    return np.split(marked, len(chosen) // metadata.batch)


def _miss_rate(
    model: onnx.ModelProto,
    metadata: DeployedMetadata,
    validation: Annotations,
    store: ImageStore,
    evaluation: EvaluationConfig,
) -> float:
    file = DeployedFile(Path("int8"), model.SerializeToString(), metadata)
    found = detect_store(DeployedDetector(file), store, validation, evaluation, device=torch.device("cpu"))
    result = evaluate_boxes(validation.ground_truth(), found, load_protocol(evaluation.protocol))
    value = result.as_metrics().get(MR2_REASONABLE)
    if value is None:
        raise QuantisationError(
            f"{validation.path}: has no people of MR^-2 reasonable ({evaluation.protocol}), so that the cost of INT8 "
            "cannot be measured; give --validation images with annotated people"
        )
    return value
