"""Weights of an ONNX stage from inputs to initializers: handed over, or with their data."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx
import onnx_ir as ir

from keepstep.runtime.backends.onnx_model import HANDED_OVER
from keepstep.runtime.format.plan import TensorType

from ..errors import ExportError
from .stage import OnnxStage, check_interface

_PROTOBUF_LIMIT = 2**31 - 1  # bytes of one message

Source = Callable[[str], np.ndarray]  # a weight's array by its name; bfloat16 comes as uint16


def handed_over(stage: OnnxStage) -> bytes:
    """The stage's ONNX file with its weights "in a file" that does not exist.

    Who loads it hands them over in memory by their names.
    """

    def outside(name: str, tensor: TensorType, dtype: ir.DataType) -> ir.TensorProtocol:
        return ir.ExternalTensor(
            location=HANDED_OVER,
            offset=0,
            length=tensor.bytes,
            dtype=dtype,
            shape=ir.Shape(tensor.shape),
            name=name,
        )

    return _with_initializers(stage, outside)


def embedded(stage: OnnxStage, weights: Source) -> bytes:
    """The stage's ONNX file with its weights in it; raises `ExportError` above 2 GiB."""
    size = len(stage.onnx) + sum(tensor.bytes for tensor in stage.weights.values())
    if size > _PROTOBUF_LIMIT:
        raise ExportError(
            f"stage '{stage.name}' with its weights embedded has {size / 2**30:.1f} GiB, and an "
            "ONNX file holds 2 GiB: share the weights instead"
        )

    def inside(name: str, tensor: TensorType, dtype: ir.DataType) -> ir.TensorProtocol:
        return ir.Tensor(checked(name, tensor, weights(name)), dtype=dtype, name=name)

    return _with_initializers(stage, inside)


def checked(name: str, tensor: TensorType, array: np.ndarray) -> np.ndarray:
    """The array in row-major order, when it has a weight's dtype and shape."""
    dtype = "uint16" if tensor.dtype == "bfloat16" else tensor.dtype
    assert (str(array.dtype), array.shape) == (dtype, tensor.shape), (
        f"weight {name} is {array.dtype} {array.shape}, not {tensor}"
    )
    return np.require(array, requirements="C")


def _with_initializers(
    stage: OnnxStage, tensor_of: Callable[[str, TensorType, ir.DataType], ir.TensorProtocol]
) -> bytes:
    model = ir.from_proto(onnx.load_model_from_string(stage.onnx))
    graph = model.graph
    check_interface(
        f"ONNX code of stage '{stage.name}'",
        (_types(graph.inputs), _types(graph.outputs)),
        ({**stage.inputs, **stage.weights}, stage.outputs),
    )
    for value in [value for value in graph.inputs if value.name in stage.weights]:
        assert value.name is not None and value.dtype is not None
        graph.inputs.remove(value)
        value.const_value = tensor_of(value.name, stage.weights[value.name], value.dtype)
        graph.register_initializer(value)
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data


def _types(values: Iterable[ir.Value]) -> dict[str, TensorType]:
    """Names, dtypes (as numpy names them) and shapes."""
    found = {}
    for value in values:
        assert value.name is not None and value.dtype is not None and value.shape is not None
        found[value.name] = TensorType(str(value.dtype.numpy()), value.shape.numpy())
    return found
