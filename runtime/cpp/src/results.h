// What a run gives, looked at: numbers that mean nothing are an error, not a picture.
#pragma once

#include <string>
#include <vector>

#include "backends/backend.h"
#include "program.h"

namespace keepstep::internal {

/// The first output that holds NaN or infinity, where it can be seen without a copy: in `results`
/// in host memory, or where the session has it if that is host memory. Allocates nothing.
struct BadOutput {
    const Slot* slot = nullptr;  // null: there is none
    std::size_t count = 0;       // of its elements
};
BadOutput bad_output(const Program& program, Session& session, Span<MutableTensor> results);

/// The first of these calls that writes NaN or infinity, in words for a message: launches them one
/// by one behind inputs that have been written.
std::string bad_call(const Program& program, Session& session,
                     const std::vector<std::size_t>& launches,
                     const std::vector<keepstep::Call>& calls);

}  // namespace keepstep::internal
