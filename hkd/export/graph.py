"""Building of an ONNX graph, node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]

OPSET = 17
"""Read by ONNX Runtime since 1.12, OpenVINO since 2023 and TensorRT since 8.6."""
IR_VERSION = 8
"""Of the file format, the one of this opset: older runtimes refuse newer ones."""


class GraphBuilder:
    """Nodes in the order of execution. Values are referred to by their names; arrays become constants."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[TensorProto] = []
        self.scope = ""
        """Prefix of the names of nodes."""

    def add(self, operator: str, *inputs: str | Array, **attributes: Any) -> str:
        """Append a node with one output; the name of this output."""
        (output,) = self.add_all(operator, 1, *inputs, **attributes)
        return output

    def add_all(self, operator: str, num_outputs: int, *inputs: str | Array, **attributes: Any) -> list[str]:
        """Append a node; the names of its outputs."""
        name = f"{self.scope}{operator}_{len(self._nodes)}"
        outputs = [name if num_outputs == 1 else f"{name}_{position}" for position in range(num_outputs)]
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        self._nodes.append(helper.make_node(operator, names, outputs, name=name, **attributes))
        return outputs

    def model(
        self,
        inputs: Mapping[str, tuple[type[np.generic], Sequence[int]]],
        outputs: Mapping[str, tuple[str, type[np.generic], Sequence[int]]],
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The checked model.

        Args:
            inputs: type and shape by name.
            outputs: by name: the value, its type and shape.
            metadata: properties of the model.
        """
        nodes = [
            *self._nodes,
            *(helper.make_node("Identity", [outputs[name][0]], [name], name=name) for name in outputs),
        ]
        graph = helper.make_graph(
            nodes,
            "detector",
            [_value(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [_value(name, kind, shape) for name, (_, kind, shape) in outputs.items()],
            initializer=self._initializers,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="hkd"
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model

    def _constant(self, value: Array) -> str:
        value = np.ascontiguousarray(value)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = name
            self._initializers.append(numpy_helper.from_array(value, name))
        return self._constants[key]


def _value(name: str, kind: type[np.generic], shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), list(shape))


def floats(values: Any) -> Array:
    """A constant of fp32."""
    return np.asarray(values, dtype=np.float32)


def integers(values: Any) -> Array:
    """A constant of int64, as shapes, axes and indices are."""
    return np.asarray(values, dtype=np.int64)
