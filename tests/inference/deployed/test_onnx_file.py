from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx.helper import make_node

from hkd.inference.deployed.onnx_file import read_onnx_file
from hkd.inference.deployed.runtimes import OnnxRuntime
from hkd.models.weight_formats.errors import CheckpointError
from tests.export.exported import crowded_detector, export, noise


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return export(crowded_detector(), tmp_path_factory.mktemp("exported")).content


def test_absent_truncated_and_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    with pytest.raises(CheckpointError, match=f"{path}: no such file"):
        read_onnx_file(path)
    for damaged in (b"", b"\x89PNG\r\n", content[:1000], content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=f"{path}: .*hkd export"):
            read_onnx_file(path)


def test_file_above_the_limit_is_not_read(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    monkeypatch.setattr("hkd.inference.deployed.onnx_file.LARGEST_FILE_BYTES", len(content) - 1)
    with pytest.raises(CheckpointError, match="larger than"):
        read_onnx_file(path)


def remove_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]
    model.metadata_props.add(key="names", value="{0: 'person'}")


def remove_key(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = model.metadata_props[0].value.replace('"resizing"', '"size"')


def state_a_huge_input(model: onnx.ModelProto) -> None:
    value = model.metadata_props[0].value
    for key, side in (("image_height", 64), ("image_width", 96)):
        assert f'"{key}": {side}' in value
        value = value.replace(f'"{key}": {side}', f'"{key}": 16384')
    model.metadata_props[0].value = value


def add_foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Loop", [], [], body=model.graph))


def use_external_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def change_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 4096


def change_input_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def replace_boxes(model: onnx.ModelProto, nodes: list[onnx.NodeProto], **constants: npt.NDArray[Any]) -> None:
    """Compute the output ``boxes`` by other nodes."""
    (last,) = (node for node in model.graph.node if "boxes" in node.output)
    model.graph.node.remove(last)
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())


def output_of_another_shape(model: onnx.ModelProto) -> None:
    replace_boxes(model, [make_node("Reshape", ["scores", "shape"], ["boxes"])], shape=np.array([1, 25, 4]))


def expand_to_terabytes(model: onnx.ModelProto) -> None:
    shape = np.array([1_000_000, 1_000, 1, 100])
    replace_boxes(model, [make_node("Expand", ["scores", "shape"], ["boxes"])], shape=shape)


def expand_by_pixels(model: onnx.ModelProto) -> None:
    # As many numbers as pedestrians are found.
    replace_boxes(model, [make_node("Expand", ["zero", "count"], ["boxes"])], zero=np.zeros(1, dtype=np.float32))
    # A file may state any shape of a value.
    model.graph.value_info.append(model.graph.output[0])


def add_function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="d")


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (remove_metadata, "names"),
        (remove_key, "resizing: missing"),
        (state_a_huge_input, "16384 x image_width 16384.* 16,777,216 pixels"),
        (add_foreign_operator, "Loop"),
        (use_external_data, "other files"),
        (change_input, "4096"),
        (add_function, "functions"),
        (change_input_type, "images is FLOAT and not UINT8"),
        (output_of_another_shape, r"boxes is \[1, 25, 4\] and not \[1, 100, 4\]"),
        (expand_to_terabytes, "100,000,000,000 numbers"),
        (expand_by_pixels, "boxes has no fixed shape"),
    ],
)
def test_foreign_graph_is_refused(
    content: bytes, tmp_path: Path, change: Callable[[onnx.ModelProto], None], fact: str
) -> None:
    model = onnx.load_model_from_string(content)
    change(model)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=fact):
        read_onnx_file(path)


def test_graph_that_fails_as_it_runs_is_one_message(content: bytes, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(content)
    # Row 10 of a table of 2; a constant index would be found as the graph is loaded.
    nodes = [
        make_node("Cast", ["scores"], ["zeros"], to=onnx.TensorProto.INT64),
        make_node("Add", ["zeros", "ten"], ["rows"]),
        make_node("Gather", ["table", "rows"], ["boxes"]),
    ]
    replace_boxes(model, nodes, ten=np.array(10), table=np.zeros((2, 4), dtype=np.float32))
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    loaded = OnnxRuntime(read_onnx_file(path), 1)
    with pytest.raises(CheckpointError, match=f"{path}: ONNX Runtime cannot run it"):
        loaded(noise(1))
