// Rule 20: whether an ONNX file is the code of a stage and no more, before ONNX Runtime sees it.
//
// ONNX Runtime computes at load whatever depends on constants alone, and a network of a few bytes
// can ask for terabytes or for years. So every operator is one of a list whose outputs follow from
// the shapes of inputs and from constants, every tensor has a declared type that is not out of
// proportion, and what is computed at load is bounded. That the types declared are the true ones
// is checked by ONNX Runtime, which infers them itself (`session.strict_shape_type_inference`).
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "plan.h"
#include "rules_values.h"

namespace keepstep::internal {

/// What is wrong with the engine of `stage`, which is handed `weights`.
Finding rule_20_engine(std::string_view file, const Stage& stage,
                       const std::map<std::string, Type>& weights);

/// The types of the weights of a stage, by the names that it has for them.
std::map<std::string, Type> weight_types(const Plan& plan, const Stage& stage);

}  // namespace keepstep::internal
