#include "backends/onnx_model.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "backends/onnx_messages.h"
#include "backends/onnx_wire.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

constexpr std::string_view handed_over_file = "weights-are-handed-over";
constexpr std::size_t most_nodes = 1 << 14;  // SDXL's network has 3,811; loading takes the square
constexpr std::size_t most_code = 1 << 24;   // bytes of all but raw data; SDXL's has a million
constexpr std::size_t longest_name = 512;    // of a node or tensor; those of plans end at 200
constexpr std::size_t most_parts = 4 * most_nodes;  // of a graph: nodes, initializers and types
constexpr std::size_t most_axes = 16;               // within a network; plans know 8
constexpr std::uint64_t most_elements = std::uint64_t{1} << 40;
constexpr std::uint64_t external = 1;  // onnx.TensorProto.DataLocation

std::string name_of(std::string_view bytes) {
    if (bytes.size() > longest_name) {
        throw OnnxFault{"a name of " + std::to_string(bytes.size()) + " bytes, expected " +
                        std::to_string(longest_name) + " at most"};
    }
    if (!std::all_of(bytes.begin(), bytes.end(), [](char c) { return c >= ' ' && c <= '~'; })) {
        throw OnnxFault{"the name " + quote(bytes) + " has more than letters of ASCII"};
    }
    return std::string(bytes);
}

const char* dtype_of(std::uint64_t element) {
    switch (element) {  // onnx.TensorProto.DataType
        case 1: return "float32";
        case 2: return "uint8";
        case 6: return "int32";
        case 7: return "int64";
        case 9: return "bool";
        case 10: return "float16";
        case 16: return "bfloat16";
        default:
            throw OnnxFault{"a tensor has elements of type " + std::to_string(element) +
                            ", which plans do not know"};
    }
}

Type type_of(std::uint64_t element, const std::vector<std::uint64_t>& axes) {
    Type type{dtype_of(element), {}};
    if (axes.size() > most_axes) {
        throw OnnxFault{"a tensor has " + std::to_string(axes.size()) + " axes, expected " +
                        std::to_string(most_axes) + " at most"};
    }
    std::uint64_t elements = 1;
    for (const std::uint64_t axis : axes) {
        if (axis != 0 && elements > most_elements / axis) {
            throw OnnxFault{"a tensor has more than 2^40 elements"};
        }
        if (axis != 0) elements *= axis;
        type.shape.push_back(static_cast<std::int64_t>(axis));
    }
    return type;
}

/// A tensor with numbers, and in which file these are if not in this one.
struct Tensor {
    std::string name;
    Type type;
    std::optional<std::string> location;
};

Tensor tensor_of(std::string_view message) {
    Tensor tensor;
    std::vector<std::uint64_t> axes;
    std::uint64_t element = 0;
    std::uint64_t location = 0;
    std::optional<std::string_view> raw;
    std::map<std::string, std::string> entries;
    read_fields(tensor_kind, message, [&](const Field& field) {
        switch (field.number) {
            case 1: axes.push_back(field.value); break;
            case 2: element = field.value; break;
            case 8: tensor.name = name_of(field.bytes); break;
            case 9: raw = field.bytes; break;
            case 14: location = field.value; break;
            default: {
                std::string key;
                std::string value;
                read_fields(entry_kind, field.bytes, [&](const Field& part) {
                    (part.number == 1 ? key : value) = name_of(part.bytes);
                });
                const bool known = key == "location" || key == "offset" || key == "length";
                if (!known || !entries.emplace(key, value).second) {
                    throw OnnxFault{"a tensor in another file has its " + quote(key) +
                                    ", which no engine of ours has, or twice"};
                }
            }
        }
    });
    tensor.type = type_of(element, axes);
    if (location == external && !raw) {
        tensor.location = entries["location"];
        return tensor;
    }
    const std::size_t bytes = raw ? raw->size() : 0;
    const auto expected = static_cast<std::uint64_t>(bytes_of(tensor.type));
    if (location != 0 || !entries.empty() || bytes != expected) {
        throw OnnxFault{"the tensor " + quote(tensor.name) + " is " + type_text(tensor.type) +
                        ", " + std::to_string(expected) + " bytes, and has " +
                        std::to_string(bytes) + " bytes of raw data"};
    }
    return tensor;
}

void check_attribute(std::string_view message) {
    read_fields(attribute_kind, message, [](const Field& field) {
        if (field.number == 1 || field.number == 4) name_of(field.bytes);
        if (field.number != 5) return;
        const Tensor tensor = tensor_of(field.bytes);
        if (tensor.location) {
            throw OnnxFault{"an attribute is " + type_text(tensor.type) + " in another file"};
        }
    });
}

OnnxNode node_of(std::string_view message) {
    OnnxNode node;
    std::string domain;
    read_fields(node_kind, message, [&](const Field& field) {
        switch (field.number) {
            case 1: node.inputs.push_back(name_of(field.bytes)); break;
            case 2: node.outputs.push_back(name_of(field.bytes)); break;
            case 3: node.name = name_of(field.bytes); break;
            case 4: node.op = name_of(field.bytes); break;
            case 5: check_attribute(field.bytes); break;
            default: domain = name_of(field.bytes);
        }
    });
    if (!domain.empty()) node.op = domain + "." + node.op;
    return node;
}

Type tensor_type_of(const std::string& name, std::string_view message) {
    std::string_view tensor;
    read_fields(type_kind, message, [&](const Field& field) { tensor = field.bytes; });
    std::uint64_t element = 0;
    std::optional<std::string_view> shape;
    read_fields(tensor_type_kind, tensor, [&](const Field& field) {
        if (field.number == 1) element = field.value;
        if (field.number == 2) shape = field.bytes;
    });
    if (!shape) throw OnnxFault{"the tensor " + quote(name) + " has no shape"};
    std::vector<std::uint64_t> axes;
    read_fields(shape_kind, *shape, [&](const Field& dim) {
        std::optional<std::uint64_t> size;
        read_fields(axis_kind, dim.bytes, [&](const Field& field) { size = field.value; });
        if (!size) throw OnnxFault{"an axis of the tensor " + quote(name) + " has no fixed size"};
        axes.push_back(*size);
    });
    return type_of(element, axes);
}

void add_typed(OnnxModel::Types& types, const char* what, std::string_view message) {
    std::string name;
    std::string_view type;
    read_fields(value_kind, message, [&](const Field& field) {
        if (field.number == 1) name = name_of(field.bytes);
        if (field.number == 2) type = field.bytes;
    });
    if (!types.emplace(name, tensor_type_of(name, type)).second) {
        throw OnnxFault{std::string("the ") + what + " " + quote(name) + " comes twice"};
    }
}

void add_initializer(OnnxModel& model, std::string_view message) {
    Tensor tensor = tensor_of(message);
    if (model.constants.count(tensor.name) + model.handed_over.count(tensor.name) != 0) {
        throw OnnxFault{"the initializer " + quote(tensor.name) + " comes twice"};
    }
    if (tensor.location && *tensor.location != handed_over_file) {
        throw OnnxFault{"the initializer " + quote(tensor.name) + " is in another file, " +
                        quote(*tensor.location) + ", which is read by no engine of ours"};
    }
    auto& types = tensor.location ? model.handed_over : model.constants;
    types.emplace(std::move(tensor.name), std::move(tensor.type));
}

/// The bytes of a graph that are not raw data of its initializers, and how many parts it has.
void check_sizes(std::string_view file, std::string_view graph) {
    std::size_t code = file.size();
    std::size_t nodes = 0;
    std::size_t parts = 0;
    read_fields(
        graph_kind, graph,
        [&](const Field& field) {
            ++parts;
            if (field.number == 1) ++nodes;
            if (field.number != 5) return;
            read_fields(
                tensor_kind, field.bytes,
                [&](const Field& part) {
                    if (part.number == 9) code -= part.bytes.size();
                },
                no_limit);
        },
        no_limit);
    if (code > most_code) {
        throw OnnxFault{std::to_string(code) + " bytes of code, expected " +
                        std::to_string(most_code) + " at most"};
    }
    if (nodes > most_nodes) {
        throw OnnxFault{"more than " + std::to_string(most_nodes) + " nodes"};
    }
    if (parts > most_parts) {
        throw OnnxFault{"more than " + std::to_string(most_parts) +
                        " nodes, initializers and types"};
    }
}

void read_graph(OnnxModel& model, std::string_view message) {
    read_fields(
        graph_kind, message,
        [&](const Field& field) {
            switch (field.number) {
                case 1: model.nodes.push_back(node_of(field.bytes)); break;
                case 5: add_initializer(model, field.bytes); break;
                case 11: add_typed(model.inputs, "input", field.bytes); break;
                case 12: add_typed(model.outputs, "output", field.bytes); break;
                case 13: add_typed(model.within, "value_info", field.bytes); break;
                default: break;  // its name
            }
        },
        no_limit);
}

void add_opset(OnnxModel& model, std::string_view message) {
    std::string domain;
    std::uint64_t version = 0;
    read_fields(opset_kind, message, [&](const Field& field) {
        if (field.number == 1) domain = name_of(field.bytes);
        if (field.number == 2) version = field.value;
    });
    if (!model.opsets.emplace(domain, version).second) {
        throw OnnxFault{"the operators of " + quote(domain) + " are imported twice"};
    }
}

}  // namespace

OnnxModel read_onnx(std::string_view file) {
    OnnxModel model;
    std::optional<std::string_view> graph;
    read_fields(model_kind, file, [&](const Field& field) {
        if (field.number == 7) graph = field.bytes;
        if (field.number == 8) add_opset(model, field.bytes);
    });
    if (!graph) throw OnnxFault{"no graph in it, so it is no ONNX model"};
    check_sizes(file, *graph);
    read_graph(model, *graph);
    return model;
}

}  // namespace keepstep::internal
