// The toy plan for a GPU's backend, and what stands for its stages there and on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "addresses.h"
#include "bundle_folder.h"

namespace keepstep::tests {

using Bytes = std::vector<std::uint8_t>;
using Tensors = std::map<std::string, std::byte*>;

/// Writes the toy plan with rows of 256 bytes, as TensorRT asks, and engines for `backend` that
/// hold the names of their stages.
void write_gpu_bundle(const std::filesystem::path& folder, const std::string& backend);

/// The tensors of a call where they lie, with the weights of its stage.
Tensors tensors_of(const internal::Plan& plan, std::size_t call,
                   const internal::CallAddresses& addresses,
                   const internal::ConstantAddresses& constants);

/// What stands for a stage: it writes bytes that depend on every byte that it reads.
void play_stage(const internal::Plan& plan, const std::string& stage, const Tensors& tensors);

/// The image of a run of all calls, played one by one in an arena of the host.
Bytes image_of(internal::BundleFolder& bundle, const internal::Plan& plan, const Bytes& ids,
               const Bytes& noise);

}  // namespace keepstep::tests
