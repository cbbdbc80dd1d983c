// Whether a plan keeps the rules of docs/plan-format.md that can be told from the plan alone.
//
// Each rule is a function that gives its first finding in the order of the plan; a plan is refused
// for the lowest rule that it breaks. A rule may rely on those before it.
#pragma once

#include <string>

#include "plan.h"
#include "rules_values.h"

namespace keepstep::internal {

/// Throws a bundle error with the number of the first rule that `plan` breaks.
///
/// Rule 10 is checked when `constants` is given, rules 1, 2 and 4 where files are read.
/// `where` names the plan's file in the message.
void check_plan(const Plan& plan, const Constants& constants, const std::string& where);

}  // namespace keepstep::internal
