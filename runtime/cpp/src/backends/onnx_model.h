// An ONNX file as data, as far as it is checked before ONNX Runtime reads it.
//
// Messages and their numbers are those of onnx.proto. Whatever our exporter does not write is
// refused where it is met: subgraphs, functions, sparse tensors, texts as data, types that are no
// tensors, notes. So nothing here recurses, and a reader that merges or skips what is odd sees
// nothing odd. Numbers are found and left where they are: an engine may hold 2 GiB of weights.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "plan.h"

namespace keepstep::internal {

/// One operator; an empty name stands for an optional tensor that is left out.
struct OnnxNode {
    std::string name;
    std::string op;  // behind its domain where it is not ONNX's own
    std::vector<std::string> inputs;
    std::vector<std::string> outputs;
};

/// The graph of a stage: tensors by name, nodes in order.
struct OnnxModel {
    using Types = std::map<std::string, Type>;

    std::map<std::string, std::uint64_t> opsets;
    std::vector<OnnxNode> nodes;
    Types inputs;
    Types outputs;
    Types within;       // tensors between nodes
    Types constants;    // with their numbers
    Types handed_over;  // weights without numbers
};

/// The model in a file. Throws an `OnnxFault`.
OnnxModel read_onnx(std::string_view file);

}  // namespace keepstep::internal
