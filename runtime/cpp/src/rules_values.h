// Rules 3 and 5 to 10 of docs/plan-format.md: names, types and places of values.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plan.h"

namespace keepstep::internal {

/// What breaks a rule, first its place in the plan; nothing where the rule is kept.
using Finding = std::optional<std::string>;

/// (file, tensor) → the tensor's type, or nothing when there is no such tensor.
using Constants = std::function<std::optional<Type>(const std::string&, const std::string&)>;

/// A path is relative, uses `/`, has no empty, `.` or `..` part, no backslash, no NUL, no drive.
/// That no symbolic link leads out of the bundle is checked where the bundle is opened.
Finding rule_3_paths(const Plan& plan);
/// Names are 1 to 200 characters out of `A–Z a–z 0–9 _ . : / -`; a plan's has no `/` or `:`.
Finding rule_5_names(const Plan& plan);
/// `kind` and `dtype` are ones listed in the format.
Finding rule_6_enums(const Plan& plan);
/// A shape has 0 to 8 axes of 1 … 2^31−1; a value has at most 2^40 bytes, and so has the arena.
Finding rule_7_sizes(const Plan& plan);
/// `constant` has `file` and `tensor`, the other kinds `offset`; `feed` is for `scratch`,
/// `range` and `default` for `input`.
Finding rule_8_fields(const Plan& plan);
/// `offset` is a multiple of 256, and the value ends within the arena.
Finding rule_9_offsets(const Plan& plan);
/// A constant's tensor is in its safetensors file, with this dtype and shape.
Finding rule_10_constants(const Plan& plan, const Constants& constants);

/// Every path in a plan, each after its place.
std::vector<std::pair<std::string, std::string>> plan_paths(const Plan& plan);
/// What keeps `name` from being a name.
Finding name_fault(const std::string& name);
/// What keeps `name` from being the name of a plan.
Finding plan_name_fault(const std::string& name);

}  // namespace keepstep::internal
