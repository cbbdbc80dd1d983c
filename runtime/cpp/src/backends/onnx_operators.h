// The operators that an engine may have, by how the shapes of their outputs are known.
//
// Those of plain networks, a few more than the exporter writes. Left out is whatever holds a graph,
// reads a file, draws random numbers, takes or gives what is no tensor, or gives as many elements
// as its numbers happen to ask for. The Python runtime has the same lists.
#pragma once

#include <optional>
#include <string_view>

namespace keepstep::internal {

enum class OperatorKind {
    shaped_by_inputs,         // shapes of outputs follow from those of inputs
    shaped_by_all_numbers,    // numbers in every input say what shape the output has,
    shaped_by_other_numbers,  // or in every one but the first
    // Each element of an output takes as many multiplications
    matrix_product,  // as an axis of the first input is long,
    windowed,        // or as the second input has elements; the first, where there is no second
    of_shapes,       // constants, whatever is done to their inputs
};

/// What is known of an operator, named behind its domain where it is not ONNX's own; nothing where
/// no engine has it.
std::optional<OperatorKind> operator_kind(std::string_view name);

}  // namespace keepstep::internal
