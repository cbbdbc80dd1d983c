#include "rules_calls.h"

#include <algorithm>
#include <set>

#include "quoting.h"

namespace keepstep::internal {
namespace {

std::string place_of(std::size_t call) { return "calls[" + std::to_string(call) + "]"; }

/// The names of `some` that `others` has not, sorted.
template <class T, class U>
std::vector<std::string> without(const OrderedMap<T>& some, const OrderedMap<U>& others) {
    std::vector<std::string> found;
    for (const auto& [name, _] : some) {
        if (!others.contains(name)) found.push_back(name);
    }
    std::sort(found.begin(), found.end());
    return found;
}

Finding same_names(const std::string& place, const OrderedMap<Binding>& bound, const std::string& what,
                   const OrderedMap<Type>& tensors) {
    if (const auto extra = without(bound, tensors); !extra.empty()) {
        return place + ": names " + quote_names(extra) + ", which the stage's " + what + " do not";
    }
    if (const auto missing = without(tensors, bound); !missing.empty()) {
        return place + ": does not bind " + quote_names(missing) + " of the stage's " + what;
    }
    return std::nullopt;
}

std::string no_value(const Plan& plan, const std::string& name) {
    return "there is no value " + quote(name) + did_you_mean(name, plan.values.names());
}

Finding binding_fault(const Plan& plan, const Binding& binding, const Type& tensor) {
    const Value* value = plan.values.find(binding.value);
    if (value == nullptr) return no_value(plan, binding.value);
    const std::vector<std::int64_t>& shape = value->type.shape;
    std::string fault;
    if (value->type.dtype != tensor.dtype) {
        fault = "dtypes differ";
    } else if (!binding.row) {
        if (shape == tensor.shape) return std::nullopt;
        fault = "shapes differ";
    } else if (shape.empty() || shape.size() != tensor.shape.size() ||
               !std::equal(shape.begin() + 1, shape.end(), tensor.shape.begin() + 1)) {
        fault = "rows differ in shape";
    } else if (*binding.row + tensor.shape[0] > shape[0]) {
        fault = "rows " + std::to_string(*binding.row) + " to " +
                std::to_string(*binding.row + tensor.shape[0] - 1) + " do not exist";
    } else {
        return std::nullopt;
    }
    return fault + ": the tensor is " + type_text(tensor) + ", value " + quote(binding.value) +
           " is " + type_text(value->type);
}

Finding bindings_fault(const Plan& plan, const std::string& place, const OrderedMap<Binding>& bound,
                       const OrderedMap<Type>& tensors) {
    for (const auto& [tensor, binding] : bound) {
        if (const Finding fault = binding_fault(plan, binding, tensors.at(tensor))) {
            return place + "." + tensor + ": " + *fault;
        }
    }
    return std::nullopt;
}

/// What keeps a stage's `in_place` from pairing outputs with inputs.
Finding in_place_fault(const std::string& place, const Stage& stage) {
    std::set<std::string> paired;
    for (const auto& [output, input] : stage.in_place) {
        const Type* made = stage.outputs.find(output);
        if (made == nullptr) {
            return place + ": the stage has no output " + quote(output) +
                   did_you_mean(output, stage.outputs.names());
        }
        const Type* taken = stage.inputs.find(input);
        if (taken == nullptr) {
            return place + "." + output + ": the stage has no input " + quote(input) +
                   did_you_mean(input, stage.inputs.names());
        }
        if (*taken != *made) {
            return place + "." + output + ": types differ: the output is " + type_text(*made) +
                   ", input " + quote(input) + " is " + type_text(*taken);
        }
        if (!paired.insert(input).second) {
            return place + "." + output + ": " + quote(input) + " is another output already";
        }
    }
    return std::nullopt;
}

/// A binding as a person writes it, such as `'history' from row 3`.
std::string binding_text(const Binding& binding) {
    return quote(binding.value) +
           (binding.row ? " from row " + std::to_string(*binding.row) : std::string());
}

}  // namespace

Finding rule_11_stages(const Plan& plan) {
    std::set<std::string> called;
    for (std::size_t i = 0; i < plan.calls.size(); ++i) {
        const Call& call = plan.calls[i];
        const Stage* stage = plan.stages.find(call.stage);
        if (stage == nullptr) {
            return place_of(i) + ".stage: there is no stage " + quote(call.stage) +
                   did_you_mean(call.stage, plan.stages.names());
        }
        const std::string place = place_of(i);
        if (Finding f = same_names(place + ".reads", call.reads, "inputs", stage->inputs)) return f;
        if (Finding f = same_names(place + ".writes", call.writes, "outputs", stage->outputs)) {
            return f;
        }
        called.insert(call.stage);
    }
    for (const auto& [name, stage] : plan.stages) {
        if (called.count(name) == 0) return "stages." + name + ": no call launches it";
        if (stage.engines.empty()) {
            return "stages." + name + ".engines: expected at least one engine";
        }
        if (stage.outputs.empty()) {
            return "stages." + name + ".outputs: expected at least one output";
        }
    }
    return std::nullopt;
}

Finding rule_12_bindings(const Plan& plan) {
    for (std::size_t i = 0; i < plan.calls.size(); ++i) {
        const Call& call = plan.calls[i];
        const Stage& stage = plan.stages.at(call.stage);
        const std::string place = place_of(i);
        if (Finding f = bindings_fault(plan, place + ".reads", call.reads, stage.inputs)) return f;
        if (Finding f = bindings_fault(plan, place + ".writes", call.writes, stage.outputs)) {
            return f;
        }
    }
    for (const auto& [name, stage] : plan.stages) {
        for (const auto& [tensor, constant] : stage.weights) {
            const std::string place = "stages." + name + ".weights." + tensor;
            const Value* value = plan.values.find(constant);
            if (value == nullptr) return place + ": " + no_value(plan, constant);
            if (value->kind != "constant") {
                return place + ": expected a constant, found " + quote(constant) + " of kind " +
                       value->kind;
            }
            if (stage.inputs.contains(tensor)) return place + ": is an input of the stage, too";
        }
        if (Finding f = in_place_fault("stages." + name + ".in_place", stage)) return f;
    }
    for (std::size_t i = 0; i < plan.calls.size(); ++i) {
        const Call& call = plan.calls[i];
        for (const auto& [output, input] : plan.stages.at(call.stage).in_place) {
            const Binding& written = call.writes.at(output);
            const Binding& read = call.reads.at(input);
            if (written.value == read.value && written.row == read.row) continue;
            return place_of(i) + ".writes." + output + ": is " + quote(input) +
                   " in place, but bound to " + binding_text(written) + " where that is bound to " +
                   binding_text(read) + "; bind both to the same value and row";
        }
    }
    return std::nullopt;
}

Finding rule_13_read_only_values(const Plan& plan) {
    for (std::size_t i = 0; i < plan.calls.size(); ++i) {
        const OrderedMap<Binding>& writes = plan.calls[i].writes;
        const bool feeds = std::any_of(writes.begin(), writes.end(), [&](const auto& written) {
            return plan.values.at(written.second.value).feed;
        });
        for (const auto& [tensor, binding] : writes) {
            const Value& value = plan.values.at(binding.value);
            std::string fault;
            if (value.kind == "input" || value.kind == "constant") {
                fault = "which is of kind " + value.kind;
            } else if (feeds && !value.feed) {
                fault = "which is no feed value, beside feed values";
            } else {
                continue;
            }
            return place_of(i) + ".writes." + tensor + ": writes " + quote(binding.value) + ", " +
                   fault;
        }
    }
    return std::nullopt;
}

}  // namespace keepstep::internal
