"""The ONNX Runtime engine: the ONNX file itself, its weights left out.

Weights become initializers "in a file" that does not exist: the runtime hands them over in
memory (`SessionOptions.add_external_initializers`), one copy for all stages. They must be
initializers, not inputs, or ONNX Runtime would not prepack them.
"""

from __future__ import annotations

import onnx_ir as ir

from ..onnx_from_trace import OnnxStage

HANDED_OVER = "weights-are-handed-over"


def build(stage: OnnxStage) -> bytes:
    """The bytes of the ONNX file."""
    model = stage.model.clone()
    graph = model.graph
    for value in [value for value in graph.inputs if value.name in stage.weights]:
        assert value.name is not None and value.dtype is not None and value.shape is not None
        graph.inputs.remove(value)
        value.const_value = ir.ExternalTensor(
            location=HANDED_OVER,
            offset=0,
            length=stage.weights[value.name].nbytes,
            dtype=value.dtype,
            shape=value.shape,
            name=value.name,
        )
        graph.register_initializer(value)
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data
