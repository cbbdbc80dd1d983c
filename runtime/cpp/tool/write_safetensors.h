// Tensors as a safetensors file; reading is in keepstep/safetensors.h.
#pragma once

#include <string>
#include <vector>

#include "keepstep/tensor.h"

namespace keepstep::tool {

/// The bytes of the file that holds these tensors of host memory. Source: the format's README,
/// https://github.com/huggingface/safetensors.
std::string safetensors_of(std::vector<ConstTensor> tensors);

}  // namespace keepstep::tool
