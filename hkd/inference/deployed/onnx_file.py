"""Reading of exported detectors. They may come from strangers: only graphs as hkd writes them are accepted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hkd.bounded_files import read_bounded
from hkd.config_files.problems import ConfigError
from hkd.inference.deployed.metadata import INPUT, OUTPUTS, PROPERTY, DeployedMetadata, parse_metadata
from hkd.inference.deployed.packages import required_package
from hkd.models.weight_formats.errors import CheckpointError

if TYPE_CHECKING:
    import onnx

ONNX_SUFFIX: Final = ".onnx"
LARGEST_FILE_BYTES: Final = 1 << 30
MOST_NODES: Final = 20_000
MOST_NUMBERS: Final = 1 << 30
"""In a value: 4 GiB of fp32. Operators such as ``Expand`` make any size of a few bytes."""
# fmt: off
OPERATORS: Final = frozenset(
    (
        "Add", "And", "Cast", "Clip", "Concat", "Conv", "Div", "Exp", "Expand", "Floor", "Gather", "Gemm",
        "Greater", "GreaterOrEqual", "Identity", "LessOrEqual", "MatMul", "Max", "MaxPool", "Min", "Mul",
        "ReduceMax", "ReduceMin", "ReduceSum", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Softmax",
        "Split", "Sub", "TopK", "Transpose", "Unsqueeze", "Where", "QuantizeLinear", "DequantizeLinear",
    )
)
# fmt: on
"""All that hkd writes: none has a subgraph."""
_REMEDY: Final = "name a file written by hkd export"
_SHOWN: Final = 5


@dataclass(frozen=True)
class DeployedFile:
    """An exported detector."""

    path: Path
    content: bytes
    metadata: DeployedMetadata


def is_exported(path: Path) -> bool:
    """Whether a path names an exported detector, by its suffix in any case."""
    return path.suffix.lower() == ONNX_SUFFIX


def read_onnx_file(path: Path) -> DeployedFile:
    """Read and check an exported detector.

    Raises:
        MissingPackageError: onnx is not installed.
        CheckpointError: the file is absent, damaged, too large, or was not written by ``hkd export``.
    """
    onnx = required_package("onnx")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; {_REMEDY}")
    try:
        content = read_bounded(path, LARGEST_FILE_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        model = onnx.load_model_from_string(content)
    # protobuf's DecodeError is no public class of onnx.
    except Exception as error:
        raise CheckpointError(f"{path}: not an ONNX file, or a part of one; {_REMEDY}") from error
    if not model.graph.node:
        raise CheckpointError(f"{path}: not an ONNX file, or a part of one; {_REMEDY}")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    if PROPERTY not in properties:
        found = ", ".join(sorted(properties)[:_SHOWN]) or "none"
        raise CheckpointError(
            f'{path}: has no metadata "{PROPERTY}", so that its input and outputs are unknown (metadata found: '
            f"{found}); {_REMEDY}"
        )
    try:
        metadata = parse_metadata(properties[PROPERTY])
    except ConfigError as error:
        raise CheckpointError(
            f'{path}: its metadata "{PROPERTY}" is damaged: {"; ".join(error.problems[:_SHOWN])}'
        ) from error
    problems = graph_problems(model, metadata)
    if problems:
        raise CheckpointError(f"{path}: is no graph of hkd: {'; '.join(problems[:_SHOWN])}; {_REMEDY}")
    return DeployedFile(path, content, metadata)


def graph_problems(model: onnx.ModelProto, metadata: DeployedMetadata) -> list[str]:
    """In what a graph differs from those that hkd writes and reads with these metadata."""
    # The shapes of an operator that is not known cannot be inferred.
    return [*_node_problems(model), *_interface_problems(model.graph, metadata)] or _shape_problems(model)


def _node_problems(model: onnx.ModelProto) -> list[str]:
    problems = []
    graph = model.graph
    if len(graph.node) > MOST_NODES:
        problems.append(f"{len(graph.node)} nodes; allowed: {MOST_NODES}")
    foreign = sorted({node.op_type for node in graph.node if node.domain or node.op_type not in OPERATORS})
    if foreign:
        problems.append(f"operators {', '.join(name[:100] for name in foreign[:_SHOWN])}, which hkd does not write")
    if model.functions:
        problems.append("functions, which hkd does not write")
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    if any(attribute.g.node or attribute.graphs for attribute in attributes):
        problems.append("subgraphs, which hkd does not write")
    if graph.sparse_initializer or any(_is_external(tensor) for tensor in _tensors(graph.initializer, attributes)):
        problems.append("weights in other files, which are not read")
    return problems


def _tensors(initializers: Iterable[Any], attributes: Iterable[Any]) -> Iterator[Any]:
    yield from initializers
    for attribute in attributes:
        yield attribute.t
        yield from attribute.tensors


def _is_external(tensor: Any) -> bool:
    return bool(tensor.external_data) or tensor.data_location != 0


def _interface_problems(graph: onnx.GraphProto, metadata: DeployedMetadata) -> list[str]:
    """Inputs and outputs that differ from those that the metadata describe."""
    expected = _expected_values(metadata)
    type_names = {number: name for name, number in required_package("onnx").TensorProto.DataType.items()}
    found = {value.name: _shape_of(value) for value in (*graph.input, *graph.output)}
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    return [
        *(
            f"{name} is {found.get(name, 'missing')} and not {shape}"
            for name, (_, shape) in expected.items()
            if found.get(name) != shape
        ),
        *(
            f"{name} is {type_names.get(types[name], types[name])} and not {type_names[kind]}"
            for name, (kind, _) in expected.items()
            if types.get(name, kind) != kind
        ),
        *(f"{name[:100]} is not one of {', '.join(expected)}" for name in found if name not in expected),
    ]


def _expected_values(metadata: DeployedMetadata) -> dict[str, tuple[int, list[int]]]:
    """Type (``TensorProto.DataType``) and shape of the input and the outputs."""
    tensor = required_package("onnx").TensorProto
    batch, slots = metadata.batch, metadata.max_detections
    types = (tensor.UINT8, tensor.FLOAT, tensor.FLOAT, tensor.INT64)
    shapes = [batch, 3, metadata.image_height, metadata.image_width], [batch, slots, 4], [batch, slots], [batch]
    return dict(zip((INPUT, *OUTPUTS), zip(types, shapes, strict=True), strict=True))


def _shape_of(value: Any) -> list[int]:
    """0 for a side that is not fixed."""
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


def _shape_problems(model: onnx.ModelProto) -> list[str]:
    """Values whose shape is not fixed, is too large, or is another than an output states."""
    onnx = required_package("onnx")
    stated = {value.name: _shape_of(value) for value in model.graph.output}
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    # What the file states about shapes is not believed: only those of inputs and constants remain.
    del bare.graph.value_info[:]
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True).graph
    # InferenceError is no public class of onnx.
    except Exception as error:  # noqa: BLE001
        return [f"its shapes contradict each other ({' '.join(str(error).split())[:200]})"]
    found = {value.name: value for value in (*inferred.value_info, *inferred.output)}
    problems = []
    for name in (output for node in model.graph.node for output in node.output):
        shape = _fixed_shape(found.get(name))
        if shape is None:
            problems.append(f"{name[:100]} has no fixed shape")
        elif math.prod(shape) > MOST_NUMBERS:
            problems.append(f"{name[:100]} has {math.prod(shape):,} numbers; allowed: {MOST_NUMBERS:,}")
        elif stated.get(name, shape) != shape:
            problems.append(f"{name} is {shape} and not {stated[name]}")
    return problems


def _fixed_shape(value: Any) -> list[int] | None:
    if value is None or not value.type.tensor_type.HasField("shape"):
        return None
    dimensions = value.type.tensor_type.shape.dim
    return _shape_of(value) if all(dimension.HasField("dim_value") for dimension in dimensions) else None
