#include "plan.h"

#include <cstdio>
#include <limits>

namespace keepstep {
namespace {

struct Entry {
    DType dtype;
    const char* name;
    std::size_t bytes;
};

constexpr std::array<Entry, 7> dtypes = {{{DType::float32, "float32", 4},
                                          {DType::float16, "float16", 2},
                                          {DType::bfloat16, "bfloat16", 2},
                                          {DType::int64, "int64", 8},
                                          {DType::int32, "int32", 4},
                                          {DType::uint8, "uint8", 1},
                                          {DType::boolean, "bool", 1}}};

/// Null for a number that a caller made up.
const Entry* entry(DType dtype) noexcept {
    for (const Entry& known : dtypes) {
        if (known.dtype == dtype) return &known;
    }
    return nullptr;
}

}  // namespace

const char* dtype_name(DType dtype) noexcept {
    const Entry* known = entry(dtype);
    return known == nullptr ? "unknown" : known->name;
}

std::size_t item_bytes(DType dtype) noexcept {
    const Entry* known = entry(dtype);
    return known == nullptr ? 0 : known->bytes;
}

namespace internal {

std::optional<DType> dtype_named(std::string_view name) {
    for (const Entry& known : dtypes) {
        if (name == known.name) return known.dtype;
    }
    return std::nullopt;
}

bool is_float(DType dtype) noexcept {
    return dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}

std::int64_t bytes_of(const Type& type) {
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
    const std::optional<DType> dtype = dtype_named(type.dtype);
    auto bytes = static_cast<std::int64_t>(dtype ? item_bytes(*dtype) : 0);
    for (const std::int64_t axis : type.shape) {
        if (axis != 0 && bytes > most / axis) return most;
        bytes *= axis;
    }
    return bytes;
}

std::string range_text(const Range& range) {
    char text[64];
    std::snprintf(text, sizeof text, "%.17g to %.17g", range.lowest, range.highest);
    return text;
}

std::string type_text(const Type& type) {
    std::string text = type.dtype + "[";
    for (std::size_t i = 0; i < type.shape.size(); ++i) {
        if (i > 0) text += ", ";
        // A file of tensors may hold thousands of axes, and this is a part of one line.
        if (i == Shape::max_axes) return text + "…]";
        text += std::to_string(type.shape[i]);
    }
    return text + "]";
}

}  // namespace internal
}  // namespace keepstep
