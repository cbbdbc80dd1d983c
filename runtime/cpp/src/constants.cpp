#include "constants.h"

#include <set>

namespace keepstep::internal {

ConstantPart constant_part(const Binding& binding, const Type& tensor) {
    if (!binding.row) return {binding.value, std::nullopt, 0};
    return {binding.value, binding.row, tensor.shape.at(0)};
}

std::vector<ConstantPart> constant_parts(const Plan& plan) {
    std::set<ConstantPart> found;
    for (const auto& [_, stage] : plan.stages) {
        for (const auto& [tensor, value] : stage.weights) found.insert({value, std::nullopt, 0});
    }
    for (const Call& call : plan.calls) {
        const Stage& stage = plan.stages.at(call.stage);
        for (const auto& [tensor, binding] : call.reads) {
            if (plan.values.at(binding.value).kind != "constant") continue;
            found.insert(constant_part(binding, stage.inputs.at(tensor)));
        }
    }
    return {found.begin(), found.end()};
}

HostBytes host_bytes(BundleFolder& bundle, const Plan& plan, const ConstantPart& part) {
    const Value& value = plan.values.at(part.value);
    const std::byte* data = bundle.tensors(*value.file).data(*value.tensor);
    const std::int64_t all = bytes_of(value.type);
    if (!part.row) return {data, static_cast<std::size_t>(all)};
    const std::int64_t row_bytes = all / value.type.shape[0];
    return {data + *part.row * row_bytes, static_cast<std::size_t>(part.rows * row_bytes)};
}

}  // namespace keepstep::internal
