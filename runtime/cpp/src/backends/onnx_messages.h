// The messages of an ONNX file, each with the fields that one of our engines may have.
//
// Source: onnx.proto.
#pragma once

#include "backends/onnx_wire.h"

namespace keepstep::internal {

inline constexpr MessageKind model_kind = {
    "ModelProto",
    {{
        {1, Wire::varint, "ir_version"},
        {2, Wire::bytes, "producer_name"},
        {3, Wire::bytes, "producer_version"},
        {4, Wire::bytes, "domain"},
        {5, Wire::varint, "model_version"},
        {7, Wire::bytes, "graph"},
        {8, Wire::bytes, "opset_import", true},
    }},
};
inline constexpr MessageKind opset_kind = {
    "OperatorSetIdProto",
    {{
        {1, Wire::bytes, "domain"},
        {2, Wire::varint, "version"},
    }},
};
inline constexpr MessageKind graph_kind = {
    "GraphProto",
    {{
        {1, Wire::bytes, "node", true},
        {2, Wire::bytes, "name"},
        {5, Wire::bytes, "initializer", true},
        {11, Wire::bytes, "input", true},
        {12, Wire::bytes, "output", true},
        {13, Wire::bytes, "value_info", true},
    }},
};
inline constexpr MessageKind node_kind = {
    "NodeProto",
    {{
        {1, Wire::bytes, "input", true},
        {2, Wire::bytes, "output", true},
        {3, Wire::bytes, "name"},
        {4, Wire::bytes, "op_type"},
        {5, Wire::bytes, "attribute", true},
        {7, Wire::bytes, "domain"},
    }},
};
inline constexpr MessageKind attribute_kind = {
    "AttributeProto",
    {{
        {1, Wire::bytes, "name"},
        {2, Wire::fixed32, "f"},
        {3, Wire::varint, "i"},
        {4, Wire::bytes, "s"},
        {5, Wire::bytes, "t"},
        {7, Wire::fixed32, "floats", true},
        {8, Wire::varint, "ints", true},
        {20, Wire::varint, "type"},
    }},
};
inline constexpr MessageKind tensor_kind = {
    "TensorProto",
    {{
        {1, Wire::varint, "dims", true},
        {2, Wire::varint, "data_type"},
        {8, Wire::bytes, "name"},
        {9, Wire::bytes, "raw_data"},
        {13, Wire::bytes, "external_data", true},
        {14, Wire::varint, "data_location"},
    }},
};
inline constexpr MessageKind entry_kind = {
    "StringStringEntryProto",
    {{
        {1, Wire::bytes, "key"},
        {2, Wire::bytes, "value"},
    }},
};
inline constexpr MessageKind value_kind = {
    "ValueInfoProto",
    {{
        {1, Wire::bytes, "name"},
        {2, Wire::bytes, "type"},
    }},
};
inline constexpr MessageKind type_kind = {
    "TypeProto",
    {{
        {1, Wire::bytes, "tensor_type"},
    }},
};
inline constexpr MessageKind tensor_type_kind = {
    "TypeProto.Tensor",
    {{
        {1, Wire::varint, "elem_type"},
        {2, Wire::bytes, "shape"},
    }},
};
inline constexpr MessageKind shape_kind = {
    "TensorShapeProto",
    {{
        {1, Wire::bytes, "dim", true},
    }},
};
inline constexpr MessageKind axis_kind = {
    "TensorShapeProto.Dimension",
    {{
        {1, Wire::varint, "dim_value"},
    }},
};

}  // namespace keepstep::internal
