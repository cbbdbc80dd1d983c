// Rules 11, 12 and 13 of docs/plan-format.md: stages and bindings.
#pragma once

#include "plan.h"
#include "rules_values.h"

namespace keepstep::internal {

/// A call's stage exists, and its `reads` and `writes` name exactly the inputs and outputs.
/// Every stage is called at least once and has at least one engine and one output.
Finding rule_11_stages(const Plan& plan);
/// A binding's value exists, has the tensor's dtype, and its shape or rows fit the tensor.
/// `weights` bind whole constants; a tensor is not both an input and a weight. `in_place` pairs an
/// output with an input of its type that no other output has, and calls bind both alike.
Finding rule_12_bindings(const Plan& plan);
/// Nothing writes an `input` or a `constant`; who writes a `feed` value writes only such.
/// Otherwise a call could neither be left out when its feed values are given, nor run without
/// overwriting them.
Finding rule_13_read_only_values(const Plan& plan);

}  // namespace keepstep::internal
