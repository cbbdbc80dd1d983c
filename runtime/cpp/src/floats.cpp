#include "floats.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace keepstep::internal {
namespace {

/// How many elements have all bits of `exponent`.
template <class Bits>
std::size_t count_with_all(Bits exponent, const void* data, std::size_t size) noexcept {
    const auto* bytes = static_cast<const std::byte*>(data);
    std::size_t found = 0;
    for (std::size_t at = 0; at < size; at += sizeof(Bits)) {
        Bits bits;
        std::memcpy(&bits, bytes + at, sizeof bits);
        found += (bits & exponent) == exponent ? 1 : 0;
    }
    return found;
}

/// The bits of a number in a format of 16 bits: one for the sign, `fraction` for the fraction.
std::uint16_t bits_of_number(float number, int fraction, int bias) noexcept {
    const unsigned sign = std::signbit(number) ? 0x8000 : 0;
    const double size = std::abs(double{number});
    if (size == 0) return static_cast<std::uint16_t>(sign);
    const int exponent = std::max(std::ilogb(size), 1 - bias);  // the least is that of subnormals
    // In units of the last bit; what is rounded up to the next power of two carries by itself.
    const double units = std::nearbyint(std::ldexp(size, fraction - exponent));
    const unsigned before = static_cast<unsigned>(exponent + bias - 1) << fraction;
    return static_cast<std::uint16_t>(sign | (before + static_cast<unsigned>(units)));
}

}  // namespace

std::uint16_t half_of_number(float number) noexcept { return bits_of_number(number, 10, 15); }

std::uint16_t bfloat16_of_number(float number) noexcept { return bits_of_number(number, 7, 127); }

double number_of_half(std::uint16_t bits) noexcept {
    const int exponent = bits >> 10 & 0x1F;
    const int fraction = bits & 0x3FF;
    double size = exponent == 0 ? std::ldexp(fraction, -24)
                                : std::ldexp(fraction | 0x400, exponent - 25);
    if (exponent == 0x1F) {
        size = fraction == 0 ? std::numeric_limits<double>::infinity()
                             : std::numeric_limits<double>::quiet_NaN();
    }
    return (bits & 0x8000) != 0 ? -size : size;
}

double number_of_bfloat16(std::uint16_t bits) noexcept {
    const std::uint32_t wide = std::uint32_t{bits} << 16;
    float number;
    std::memcpy(&number, &wide, sizeof number);
    return double{number};
}

std::size_t count_not_finite(DType dtype, const void* data, std::size_t bytes) noexcept {
    switch (dtype) {
        case DType::float32: return count_with_all<std::uint32_t>(0x7F800000, data, bytes);
        case DType::float16: return count_with_all<std::uint16_t>(0x7C00, data, bytes);
        case DType::bfloat16: return count_with_all<std::uint16_t>(0x7F80, data, bytes);
        default: return 0;
    }
}

}  // namespace keepstep::internal
