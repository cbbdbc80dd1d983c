// Failures inside of the library: thrown where they are found, turned into a Status at its edge.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "keepstep/status.h"

namespace keepstep::internal {

/// What a Status is made from. It never leaves the library.
struct Error {
    StatusCode code;
    int rule;
    std::string message;
};

/// A bundle or plan breaks a rule of docs/plan-format.md (0: it cannot be read at all).
[[noreturn]] void throw_bundle_error(int rule, std::string message);
/// What was given does not fit.
[[noreturn]] void throw_input_error(std::string message);
/// A backend cannot run here, or failed.
[[noreturn]] void throw_backend_error(std::string message);

/// A run gave numbers that mean nothing.
[[noreturn]] void throw_result_error(std::string message);

/// The caller ended a run after `done` calls.
[[noreturn]] void throw_cancelled(std::size_t done);

/// The exception that is being handled, as a Status.
Status caught() noexcept;

/// Runs `body` and gives its result, or what it threw.
template <class Body>
auto guarded(Body&& body) noexcept -> Result<decltype(body())> {
    try {
        return body();
    } catch (...) {
        return caught();
    }
}

/// The same for a body that gives nothing.
template <class Body>
Status guarded_status(Body&& body) noexcept {
    try {
        body();
        return {};
    } catch (...) {
        return caught();
    }
}

}  // namespace keepstep::internal
