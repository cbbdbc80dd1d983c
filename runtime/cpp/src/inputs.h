// What a caller gives, checked against the type of the value that it is for.
#pragma once

#include <cstddef>
#include <vector>

#include "keepstep/tensor.h"

namespace keepstep::internal {

struct Default;
struct Range;
struct Type;

/// The type of a value of a plan that keeps the rules, as callers see it.
TensorType public_type(const std::string& name, const Type& type);

/// A type as a person writes it, such as `float32[2, 4]`.
std::string type_text(DType dtype, const Shape& shape);

/// What an input holds that has a default and is not given. A float is rounded to float32 first,
/// then to the value's dtype, each time to nearest.
std::vector<std::byte> default_bytes(const Default& fallback, const TensorType& type);

/// Refuses a tensor without exactly the expected dtype, shape and bytes. Throws an input error.
void check_tensor(const char* what, const ConstTensor& given, const TensorType& expected);

/// Refuses floats that are NaN or infinite, and bools that are neither 0 nor 1.
/// Throws an input error.
void check_elements(const ConstTensor& given);

/// Refuses elements that the model has no meaning for. Throws an input error.
void check_range(const ConstTensor& given, const Range& range);

}  // namespace keepstep::internal
