// What `keepstep-run` does: a plan is played, or described.
#pragma once

#include <string>

#include "request.h"

namespace keepstep::tool {

/// Plays a plan, writes what is asked for, and gives what is to be printed. Throws a `Failure`.
std::string play(const Request& request);

/// Describes a plan; no engine is loaded for it. Throws a `Failure`.
std::string list(const Request& request);

}  // namespace keepstep::tool
