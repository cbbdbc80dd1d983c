// Where every tensor of every call lies in memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "plan.h"

namespace keepstep::internal {

/// Bytes of a value that lie before what `binding` means.
inline std::int64_t begin_in_value(const Type& value, const Binding& binding) {
    return binding.row ? *binding.row * (bytes_of(value) / value.shape[0]) : 0;
}

}  // namespace keepstep::internal
