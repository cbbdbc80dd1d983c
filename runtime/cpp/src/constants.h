// The parts of a plan's constants that its calls and stages are bound to.
//
// A table is bound row by row and a weight as a whole. Each part is handed to a device by itself:
// engines want addresses that are multiples of 256, and rows of a table seldom are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bundle_folder.h"
#include "plan.h"

namespace keepstep::internal {

/// `rows` rows of the constant `value` from `row` on, or all of it.
struct ConstantPart {
    std::string value;
    std::optional<std::int64_t> row;
    std::int64_t rows = 0;

    friend bool operator<(const ConstantPart& a, const ConstantPart& b) {
        return std::tie(a.value, a.row, a.rows) < std::tie(b.value, b.row, b.rows);
    }
};

/// What a tensor of that type is bound to.
ConstantPart constant_part(const Binding& binding, const Type& tensor);

/// Every part that a stage has as a weight or a call reads, each once.
std::vector<ConstantPart> constant_parts(const Plan& plan);

/// Bytes that are mapped from a file.
struct HostBytes {
    const std::byte* data = nullptr;
    std::size_t size = 0;
};

/// A part in the bundle's mapped memory.
HostBytes host_bytes(BundleFolder& bundle, const Plan& plan, const ConstantPart& part);

}  // namespace keepstep::internal
