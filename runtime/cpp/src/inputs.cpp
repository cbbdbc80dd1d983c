#include "inputs.h"

#include <cstring>

#include "error.h"
#include "plan.h"
#include "wording.h"

namespace keepstep::internal {
namespace {

/// How many elements have all bits of `exponent`: they are infinite or not a number.
template <class Bits>
std::size_t count_not_finite(const ConstTensor& given, Bits exponent) {
    const auto* bytes = static_cast<const std::byte*>(given.data);
    std::size_t bad = 0;
    for (std::size_t at = 0; at < given.bytes; at += sizeof(Bits)) {
        Bits bits;
        std::memcpy(&bits, bytes + at, sizeof bits);  // the caller's memory may be unaligned
        bad += (bits & exponent) == exponent ? 1 : 0;
    }
    return bad;
}

}  // namespace

TensorType public_type(const std::string& name, const Type& type) {
    return {name, dtype_named(type.dtype).value(), Shape(type.shape.data(), type.shape.size()),
            static_cast<std::size_t>(bytes_of(type))};
}

std::string type_text(DType dtype, const Shape& shape) {
    const Type type{dtype_name(dtype), {shape.begin(), shape.end()}};
    return type_text(type);
}

void check_tensor(const char* what, const ConstTensor& given, const TensorType& expected) {
    const auto refuse = [&](const std::string& found) {
        throw_input_error(std::string(what) + " " + shown(given.name) + ": expected " +
                          type_text(expected.dtype, expected.shape) + ", found " + found);
    };
    if (given.dtype != expected.dtype) {
        refuse("dtype " + std::string(dtype_name(given.dtype)) + "; dtypes are never converted");
    }
    if (given.shape != expected.shape) {
        refuse(type_text(given.dtype, given.shape) +
               (given.shape.size() > Shape::max_axes ? " and more axes" : "") +
               "; the plan is for this shape only: give it, or export with another");
    }
    if (given.bytes != expected.bytes) {
        refuse(std::to_string(given.bytes) + " bytes of memory; give all " +
               std::to_string(expected.bytes));
    }
    if (given.data == nullptr) refuse("a null pointer");
}

void check_elements(const ConstTensor& given) {
    std::size_t bad = 0;
    const char* fault = "NaN or infinite; every element must be finite";
    if (given.dtype == DType::float32) {
        bad = count_not_finite<std::uint32_t>(given, 0x7F800000);
    } else if (given.dtype == DType::float16) {
        bad = count_not_finite<std::uint16_t>(given, 0x7C00);
    } else if (given.dtype == DType::bfloat16) {
        bad = count_not_finite<std::uint16_t>(given, 0x7F80);
    } else if (given.dtype == DType::boolean) {
        const auto* bytes = static_cast<const std::uint8_t*>(given.data);
        for (std::size_t i = 0; i < given.bytes; ++i) bad += bytes[i] > 1 ? 1 : 0;
        fault = "neither 0 nor 1";
    }
    if (bad == 0) return;
    throw_input_error("input " + shown(given.name) + ": " + std::to_string(bad) + " of " +
                      std::to_string(given.bytes / item_bytes(given.dtype)) + " elements are " +
                      fault);
}

}  // namespace keepstep::internal
