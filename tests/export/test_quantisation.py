from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from hkd.coco.annotations import Annotations, read_annotations, without_boxes
from hkd.data.sources.synthetic import write_scenes
from hkd.data.store import ImageStore, open_store
from hkd.export import quantisation
from hkd.export.onnx_export import detector_model, write_model
from hkd.export.quantisation import QuantisationError, quantise
from hkd.inference.deployed.metadata import DeployedMetadata, parse_metadata
from hkd.inference.deployed.onnx_file import DeployedFile, read_onnx_file
from hkd.inference.deployed.runtimes import OnnxRuntime
from tests.export.exported import SETTINGS, crowded_detector, export, noise
from tests.training.tiny import HEIGHT, WIDTH

Model = tuple[onnx.ModelProto, DeployedMetadata]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("exported")
    export(crowded_detector(), folder)
    return detector_model(folder / "student.safetensors", dataclasses.replace(SETTINGS, batch=2))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Annotations, Annotations]:
    folder = tmp_path_factory.mktemp("scenes")
    files = write_scenes(
        folder, train_images=5, validation_images=3, height=3 * HEIGHT, width=3 * WIDTH, progress=False
    )
    # People of fewer than 50 pixels do not count in MR^-2 reasonable.
    train, validation = map(read_annotations, files)
    return train, validation


def test_layers_are_quantised_and_what_follows_is_not(
    model: Model, scenes: tuple[Annotations, Annotations], tmp_path: Path
) -> None:
    found = quantise(*model, *scenes, max_drop=100.0)
    assert found.metadata.precision == "int8"
    assert found.metadata.fp32_layers == ()
    file = read_onnx_file(write_model(found.model, found.metadata, tmp_path / "int8.onnx").path)
    onnx.checker.check_model(file.content, full_check=True)
    assert len(file.content) < 0.7 * len(model[0].SerializeToString())
    read_by = {name: node for node in found.model.graph.node for name in node.input}
    scopes = {
        read_by[node.output[0]].name.partition("/")[0]
        for node in found.model.graph.node
        if node.op_type == "DequantizeLinear" and node.output[0] in read_by
    }
    assert {"backbone", "box_head"} <= scopes
    # RoIAlign reads the pyramid, the output of a layer.
    assert not scopes & {"input", "proposals", "detections"}
    # Boxes and scores are near those of fp32: 8 bits resolve a range to 0.4 %.
    images = noise(2)
    fp32 = OnnxRuntime(DeployedFile(file.path, model[0].SerializeToString(), model[1]), 1)(images)
    int8 = OnnxRuntime(file, 1)(images)
    assert abs(fp32.scores[:, 0] - int8.scores[:, 0]).max() < 0.1
    assert np.isfinite(int8.boxes).all()


def test_parts_that_cost_most_stay_in_fp32(
    model: Model, scenes: tuple[Annotations, Annotations], monkeypatch: pytest.MonkeyPatch
) -> None:
    # MR^-2 that each part costs in INT8. The limit is 0.005: stem first, then fpn return to fp32, layer1 need not.
    costs = {"stem": 0.05, "fpn": 0.03, "layer1": 0.002}

    def miss_rate(candidate: onnx.ModelProto, *_: object) -> float:
        quantised = {
            node.name.split("/")[1]
            for node in candidate.graph.node
            if node.op_type == "Conv" and node.name.startswith("backbone/") and "Dequantize" in node.input[1]
        }
        return 0.2 + sum(cost for part, cost in costs.items() if part in quantised)

    monkeypatch.setattr(quantisation, "_miss_rate", miss_rate)
    found = quantise(*model, *scenes, max_drop=0.5)
    assert found.metadata.fp32_layers == ("backbone/stem", "backbone/fpn")
    assert found.fp32_miss_rate == pytest.approx(0.2)
    assert found.miss_rate == pytest.approx(0.202)
    assert found.metadata.metrics["int8_mr2_reasonable"] == pytest.approx(0.202)


def test_limit_that_cannot_be_kept_is_an_error_that_names_the_parts(
    model: Model, scenes: tuple[Annotations, Annotations], monkeypatch: pytest.MonkeyPatch
) -> None:
    def miss_rate(candidate: onnx.ModelProto, *_: object) -> float:
        return 0.5 if any(node.op_type == "QuantizeLinear" for node in candidate.graph.node) else 0.25

    monkeypatch.setattr(quantisation, "_miss_rate", miss_rate)
    with pytest.raises(QuantisationError, match=r"25\.00 points.*backbone/stem.*--max-drop 1"):
        quantise(*model, *scenes)


def test_validation_images_are_no_calibration_images(model: Model, scenes: tuple[Annotations, Annotations]) -> None:
    with pytest.raises(QuantisationError, match=r"3 images of --validation.*validation_000000\.png"):
        quantise(*model, scenes[1], scenes[1])


def test_validation_images_without_people_are_refused(model: Model, scenes: tuple[Annotations, Annotations]) -> None:
    train, validation = scenes
    without = without_boxes(validation.images, validation.image_root, validation.path)
    # Without a miss rate, any INT8 graph would keep the limit.
    with pytest.raises(QuantisationError, match=f"{validation.path}: .*--validation"):
        quantise(*model, train, without)


def test_calibration_images_alone_are_decoded(
    model: Model, scenes: tuple[Annotations, Annotations], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[tuple[str, ...]] = []

    def opened(images: Annotations, *arguments: Any, **options: Any) -> ImageStore:
        assert options["max_megapixels"] == 0.5
        decoded.append(tuple(Path(image.file_name).stem for image in images.images))
        return open_store(images, *arguments, **options)

    monkeypatch.setattr(quantisation, "open_store", opened)
    monkeypatch.setattr(quantisation, "CALIBRATION_IMAGES", 2)
    quantised = quantise(*model, *scenes, max_drop=100.0, max_megapixels=0.5)
    # Of five images, the two at 0 and 5 // 2.
    assert ("train_000000", "train_000002") in decoded
    assert len(decoded) == 2
    used = quantised.metadata.int8_images
    assert used is not None
    assert (used.num_calibrated, used.calibration.num_images) == (2, 5)


def test_metadata_can_be_read_where_the_name_of_an_annotation_file_is_not_unicode(
    model: Model, scenes: tuple[Annotations, Annotations]
) -> None:
    train, validation = scenes
    # As Python reads the byte 0xff of a file's name.
    renamed = dataclasses.replace(train, path=Path("train\udcff.json"))
    metadata = quantise(*model, renamed, validation, max_drop=100.0).metadata
    used = parse_metadata(metadata.to_json()).int8_images
    assert used is not None
    assert used.calibration.annotations == "train\\udcff.json"


def test_versions_name_the_package_that_quantised(model: Model, scenes: tuple[Annotations, Annotations]) -> None:
    versions = quantise(*model, *scenes, max_drop=100.0).metadata.versions
    assert versions == {**model[1].versions, "onnxruntime": onnxruntime.__version__}
