// What the library owes its callers, whatever the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "keepstep/status.h"

/// One input, as libFuzzer calls it; the only function of a target that is called from outside.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace keepstep::fuzz {

/// Ends the program where something does not hold, so that the input is a finding.
void demand(bool holds, const char* what, const std::string& found = {});

/// Demands that a refusal is a bundle error for a rule in [first, last], told in one short and
/// readable line.
void demand_refusal(const Status& status, int first, int last);

}  // namespace keepstep::fuzz
