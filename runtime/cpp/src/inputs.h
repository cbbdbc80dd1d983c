// What a caller gives, checked against the type of the value that it is for.
#pragma once

#include "keepstep/tensor.h"

namespace keepstep::internal {

struct Range;
struct Type;

/// The type of a value of a plan that keeps the rules, as callers see it.
TensorType public_type(const std::string& name, const Type& type);

/// A type as a person writes it, such as `float32[2, 4]`.
std::string type_text(DType dtype, const Shape& shape);

/// Refuses a tensor without exactly the expected dtype, shape and bytes. Throws an input error.
void check_tensor(const char* what, const ConstTensor& given, const TensorType& expected);

/// Refuses floats that are NaN or infinite, and bools that are neither 0 nor 1.
/// Throws an input error.
void check_elements(const ConstTensor& given);

/// Refuses elements that the model has no meaning for. Throws an input error.
void check_range(const ConstTensor& given, const Range& range);

}  // namespace keepstep::internal
