// What ends the program, with the exit codes of the command `keepstep`.
#pragma once

#include <string>
#include <utility>

#include "keepstep/status.h"

namespace keepstep::tool {

constexpr int fault = 1;          // of keepstep itself
constexpr int mistake = 2;        // of the user, or of the machine
constexpr int ended = 128;        // and the number of the signal: 130 after Ctrl-C

/// One line for the user, and the exit code. Thrown where it is found, told by `main`.
struct Failure {
    std::string message;
    int code = mistake;
};

/// Throws the failure that a status tells.
inline void check(const Status& status) {
    switch (status.code()) {
        case StatusCode::ok: return;
        case StatusCode::internal_error: throw Failure{status.message(), fault};
        default: throw Failure{status.message()};
    }
}

/// The value of a result, or its failure.
template <class T>
T value_of(Result<T> result) {
    check(result.status());
    return std::move(result).value();
}

}  // namespace keepstep::tool
