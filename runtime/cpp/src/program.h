// A checked plan with numbers in place of names: what a run looks at, and all that it looks at.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "keepstep/tensor.h"
#include "plan.h"

namespace keepstep::internal {

/// A value that the caller sees.
struct Slot {
    enum class Kind { input, feed, output };

    Kind kind;
    TensorType type;
    std::size_t value;  // its place in `Plan::values`
    std::optional<Range> range = {};
    std::vector<std::byte> fallback = {};  // of an input with a default: what it then holds

    /// Whether a run can do without it.
    bool has_default() const noexcept { return !fallback.empty(); }
};

/// Floats that a call writes: what is looked at where a run went wrong.
struct Written {
    std::string tensor;
    DType dtype;
    std::size_t value;  // its place in `Plan::values`
    std::size_t begin;  // bytes of the value before it
    std::size_t bytes;
};

/// What decides whether a call is launched, and what it needs.
struct CallNeeds {
    std::vector<std::size_t> inputs;  // slots of inputs that it reads
    std::vector<std::size_t> feeds;   // slots that it writes: all given, and it is left out
};

/// The slots of a plan and the needs of its calls.
struct Program {
    explicit Program(const Plan& plan);

    /// The slot of that name; null when there is none.
    const Slot* find(std::string_view name) const noexcept;

    std::string plan;         // its name
    std::vector<Slot> slots;  // sorted by name
    std::vector<CallNeeds> calls;
    std::vector<std::vector<Written>> written;  // by call
};

/// Puts into `launches` the indices of the calls that are not left out when `given` slots are.
///
/// `launches` has room for all calls: nothing is allocated. Throws an input error when of a call's
/// feeds only some are given, or when an input without a default is missing that a launched call
/// reads.
void calls_to_launch(const Program& program, const std::vector<bool>& given,
                     std::vector<std::size_t>& launches);

}  // namespace keepstep::internal
