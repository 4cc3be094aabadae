from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from hkd.inference.deployed.onnx_file import read_onnx_file
from hkd.models.weight_formats.errors import CheckpointError
from tests.export.exported import crowded_detector, export


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


def add_foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Loop", [], [], body=model.graph))


def use_external_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def change_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 4096


def add_function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="d")


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (remove_metadata, "names"),
        (remove_key, "resizing: missing"),
        (add_foreign_operator, "Loop"),
        (use_external_data, "other files"),
        (change_input, "4096"),
        (add_function, "functions"),
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
