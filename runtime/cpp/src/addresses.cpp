#include "addresses.h"

#include "error.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

/// Constants are mapped to be read; that no call writes there is rule 13's.
std::byte* readable(const std::byte* constant) { return const_cast<std::byte*>(constant); }

Addresses addresses_of(const Plan& plan, const OrderedMap<Binding>& bound, const OrderedMap<Type>& types,
                       std::byte* arena, const ConstantAddresses& constants) {
    Addresses found;
    for (const auto& [tensor, binding] : bound) {
        const Value& value = plan.values.at(binding.value);
        std::byte* address =
            value.offset ? arena + *value.offset + begin_in_value(value.type, binding)
                         : readable(constants.at(constant_part(binding, types.at(tensor))));
        found.emplace_back(tensor, address);
    }
    return found;
}

}  // namespace

std::int64_t begin_in_value(const Type& value, const Binding& binding) {
    return binding.row ? *binding.row * (bytes_of(value) / value.shape[0]) : 0;
}

std::vector<CallAddresses> call_addresses(const Plan& plan, std::byte* arena,
                                          const ConstantAddresses& constants) {
    std::vector<CallAddresses> calls;
    for (const Call& call : plan.calls) {
        const Stage& stage = plan.stages.at(call.stage);
        calls.push_back({addresses_of(plan, call.reads, stage.inputs, arena, constants),
                         addresses_of(plan, call.writes, stage.outputs, arena, constants)});
    }
    return calls;
}

Addresses weight_addresses(const Stage& stage, const ConstantAddresses& constants) {
    Addresses found;
    for (const auto& [tensor, value] : stage.weights) {
        found.emplace_back(tensor, readable(constants.at({value, std::nullopt, 0})));
    }
    return found;
}

void check_alignment(const Plan& plan) {
    for (std::size_t i = 0; i < plan.calls.size(); ++i) {
        for (const auto* bound : {&plan.calls[i].reads, &plan.calls[i].writes}) {
            for (const auto& [_, binding] : *bound) {
                const Value& value = plan.values.at(binding.value);
                const std::int64_t begin = begin_in_value(value.type, binding);
                if (value.kind == "constant" || begin % alignment == 0) continue;
                throw_backend_error(
                    "plan " + quote(plan.name) + ": calls[" + std::to_string(i) + "] means row " +
                    std::to_string(*binding.row) + " of " + quote(binding.value) +
                    ", which begins " + std::to_string(begin) +
                    " bytes behind the first, and this backend needs multiples of " +
                    std::to_string(alignment) +
                    ": export with a height and a width that are multiples of 32, or play with "
                    "onnxruntime");
            }
        }
    }
}

}  // namespace keepstep::internal
