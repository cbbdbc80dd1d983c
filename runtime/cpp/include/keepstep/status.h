// What can go wrong, as values: no function of this library throws.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "keepstep/export.h"

namespace keepstep {

/// Who can mend it. The kinds are those of the Python runtime.
enum class StatusCode {
    ok = 0,
    bundle_error = 1,    ///< a bundle or plan breaks a rule of docs/plan-format.md
    input_error = 2,     ///< what was given to a bundle or player does not fit its plan
    backend_error = 3,   ///< a backend is not in this build, not in this bundle, or failed
    internal_error = 4,  ///< a fault of keepstep itself
    cancelled = 5,       ///< the caller's own progress callback ended the run
    result_error = 6,    ///< a run gave NaN or infinity
};

/// Success, or what was found, what was expected, where, and the way out.
class [[nodiscard]] Status {
  public:
    /// Success.
    Status() = default;
    /// A failure; `rule` is 0 where none of the plan format's rules is broken.
    Status(StatusCode code, int rule, std::string message)
        : code_(code), rule_(rule), message_(std::move(message)) {}

    bool ok() const noexcept { return code_ == StatusCode::ok; }
    StatusCode code() const noexcept { return code_; }
    /// The rule of docs/plan-format.md that a bundle breaks; 0: it cannot be read at all.
    int rule() const noexcept { return rule_; }
    /// One printable line, also when it quotes a hostile file; empty at success.
    const std::string& message() const noexcept { return message_; }

  private:
    StatusCode code_ = StatusCode::ok;
    int rule_ = 0;
    std::string message_;
};

/// A value, or the status that says why there is none.
template <class T>
class [[nodiscard]] Result {
  public:
    Result(T value) : value_(std::move(value)) {}
    /// A failure; `status` is none of success.
    Result(Status status) : status_(std::move(status)) {}

    bool ok() const noexcept { return value_.has_value(); }
    explicit operator bool() const noexcept { return ok(); }
    const Status& status() const noexcept { return status_; }

    /// The value. Ends the program, with the status, where there is none: ask `ok()` before.
    T& value() & noexcept {
        demand();
        return *value_;
    }
    const T& value() const& noexcept {
        demand();
        return *value_;
    }
    T&& value() && noexcept {
        demand();
        return *std::move(value_);
    }
    T& operator*() & noexcept { return value(); }
    const T& operator*() const& noexcept { return value(); }
    T&& operator*() && noexcept { return std::move(*this).value(); }
    T* operator->() noexcept { return &value(); }
    const T* operator->() const noexcept { return &value(); }

  private:
    void demand() const noexcept {
        if (!value_) {
            std::fprintf(stderr, "keepstep: value() of a failure: %s\n", status_.message().c_str());
            std::abort();
        }
    }

    std::optional<T> value_;
    Status status_;
};

}  // namespace keepstep
