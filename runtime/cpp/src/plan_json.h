// Plans and manifests from JSON text: rules 1 and 2 of docs/plan-format.md.
//
// Reading checks the grammar only; what the fields mean is checked in validate.h.
#pragma once

#include <string>
#include <string_view>

#include "plan.h"

namespace keepstep::internal {

/// Reads a plan; `where` names its file in messages.
/// Throws a bundle error with rule 1 (grammar) or 2 (version) and the place in the file.
Plan plan_from_json(std::string_view text, const std::string& where);

/// Reads bundle.json; throws as `plan_from_json` does.
Manifest manifest_from_json(std::string_view text, const std::string& where = "bundle.json");

}  // namespace keepstep::internal
