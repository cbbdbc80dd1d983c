#include "backends/cuda_memory.h"

#include <cstdint>
#include <string>

#include "constants.h"

namespace keepstep::internal {
namespace {

/// The copy of host memory on a GPU; made if no player has one.
///
/// It is known by its address, which stays as it is as long as the bundle: plans and players share
/// what they have in common.
std::shared_ptr<DeviceMemory> uploaded(BundleFolder& bundle, const HostBytes& host, int gpu,
                                       Stream& stream) {
    const std::string key = "cuda " + std::to_string(gpu) + ": constant at " +
                            std::to_string(reinterpret_cast<std::uintptr_t>(host.data)) + ", " +
                            std::to_string(host.size) + " bytes";
    return bundle.shared().get<DeviceMemory>(key, [&] {
        auto copy = std::make_shared<DeviceMemory>(host.size);
        stream.upload(copy->data(), host.data, host.size);
        return copy;
    });
}

}  // namespace

DeviceValues::DeviceValues(BundleFolder& bundle, const Plan& plan, int gpu, Stream& stream)
    : arena_(static_cast<std::size_t>(plan.arena_bytes)) {
    stream.zero(arena_.data(), arena_.size());
    for (const auto& [_, value] : plan.values) {
        offsets_.push_back(static_cast<std::size_t>(value.offset.value_or(0)));
    }
    for (const ConstantPart& part : constant_parts(plan)) {
        uploaded_.push_back(uploaded(bundle, host_bytes(bundle, plan, part), gpu, stream));
        constants_[part] = uploaded_.back()->data();
    }
    stream.wait();
}

}  // namespace keepstep::internal
