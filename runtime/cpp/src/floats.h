// Floating-point elements by their bits: C++ has no type for halves.
#pragma once

#include <cstddef>
#include <cstdint>

#include "keepstep/tensor.h"

namespace keepstep::internal {

/// The number that the bits of a float16 mean; exact.
double number_of_half(std::uint16_t bits) noexcept;
/// The same of a bfloat16.
double number_of_bfloat16(std::uint16_t bits) noexcept;

/// The bits of the float16 that is nearest to a finite number within its limits; of two, the even.
std::uint16_t half_of_number(float number) noexcept;
/// The same of a bfloat16.
std::uint16_t bfloat16_of_number(float number) noexcept;

/// How many elements of any dtype are NaN or infinite. `data` may be unaligned.
std::size_t count_not_finite(DType dtype, const void* data, std::size_t bytes) noexcept;

}  // namespace keepstep::internal
