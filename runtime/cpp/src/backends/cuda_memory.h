// The values of a plan in a GPU's memory: one arena, and constants that players share.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "addresses.h"
#include "backends/cuda.h"
#include "bundle_folder.h"
#include "plan.h"

namespace keepstep::internal {

/// Everything that a plan's calls read and write.
class DeviceValues {
  public:
    /// Uploads what no other player has uploaded; all is there when this returns.
    DeviceValues(BundleFolder& bundle, const Plan& plan, int gpu, Stream& stream);

    std::byte* arena() const { return arena_.data(); }
    /// The memory of a value that lies in the arena, by its place in `Plan::values`.
    std::byte* value(std::size_t value) const { return arena_.data() + offsets_[value]; }
    /// The address of every part of a constant that is used.
    const ConstantAddresses& constants() const { return constants_; }

  private:
    DeviceMemory arena_;
    std::vector<std::size_t> offsets_;  // by value; 0 for constants
    std::vector<std::shared_ptr<DeviceMemory>> uploaded_;
    ConstantAddresses constants_;
};

}  // namespace keepstep::internal
