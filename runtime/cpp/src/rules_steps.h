// Rule 19 of docs/plan-format.md: steps, for people and tools; format 1 had a stricter one.
#pragma once

#include "plan.h"
#include "rules_values.h"

namespace keepstep::internal {

/// `step` lies within `steps` and does not fall from call to call; `kept` is null or at least 1.
/// A label is 1 to 200 characters without control characters. Several calls may belong to a step,
/// and a step may have none. In format 1 the label is a kind: a step of kind `skip` has no call,
/// those of kind `full` or `shallow` have exactly one.
Finding rule_19_steps(const Plan& plan);

}  // namespace keepstep::internal
