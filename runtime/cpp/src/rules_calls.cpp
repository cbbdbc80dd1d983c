#include "rules_calls.h"

#include <algorithm>
#include <set>

#include "wording.h"

namespace keepstep::internal {
namespace {

std::string place_of(std::size_t call) { return "calls[" + std::to_string(call) + "]"; }

/// The names of `some` that `others` has not, sorted.
template <class T, class U>
std::vector<std::string> without(const Named<T>& some, const Named<U>& others) {
    std::vector<std::string> found;
    for (const auto& [name, _] : some) {
        if (!others.contains(name)) found.push_back(name);
    }
    std::sort(found.begin(), found.end());
    return found;
}

Finding same_names(const std::string& place, const Named<Binding>& bound, const std::string& what,
                   const Named<Type>& tensors) {
    if (const auto extra = without(bound, tensors); !extra.empty()) {
        return place + ": names " + listed(extra) + ", which the stage's " + what + " do not";
    }
    if (const auto missing = without(tensors, bound); !missing.empty()) {
        return place + ": does not bind " + listed(missing) + " of the stage's " + what;
    }
    return std::nullopt;
}

std::string no_value(const Plan& plan, const std::string& name) {
    return "there is no value " + shown(name) + did_you_mean(name, plan.values.names());
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
    return fault + ": the tensor is " + type_text(tensor) + ", value " + shown(binding.value) +
           " is " + type_text(value->type);
}

Finding bindings_fault(const Plan& plan, const std::string& place, const Named<Binding>& bound,
                       const Named<Type>& tensors) {
    for (const auto& [tensor, binding] : bound) {
        if (const Finding fault = binding_fault(plan, binding, tensors.at(tensor))) {
            return place + "." + tensor + ": " + *fault;
        }
    }
    return std::nullopt;
}

}  // namespace

Finding rule_11_stages(const Plan& plan) {
    std::set<std::string> called;
    for (std::size_t i = 0; i < plan.calls.size(); ++i) {
        const Call& call = plan.calls[i];
        const Stage* stage = plan.stages.find(call.stage);
        if (stage == nullptr) {
            return place_of(i) + ".stage: there is no stage " + shown(call.stage) +
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
                return place + ": expected a constant, found " + shown(constant) + " of kind " +
                       value->kind;
            }
            if (stage.inputs.contains(tensor)) return place + ": is an input of the stage, too";
        }
    }
    return std::nullopt;
}

Finding rule_13_read_only_values(const Plan& plan) {
    for (std::size_t i = 0; i < plan.calls.size(); ++i) {
        const Named<Binding>& writes = plan.calls[i].writes;
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
            return place_of(i) + ".writes." + tensor + ": writes " + shown(binding.value) + ", " +
                   fault;
        }
    }
    return std::nullopt;
}

Finding rule_19_steps(const Plan& plan) {
    const auto step_count = static_cast<std::int64_t>(plan.steps.size());
    for (std::size_t s = 0; s < plan.steps.size(); ++s) {
        const Step& step = plan.steps[s];
        const std::string place = "steps[" + std::to_string(s) + "]";
        if (std::find(step_kinds.begin(), step_kinds.end(), step.kind) == step_kinds.end()) {
            return place + ".kind: " + shown(step.kind) +
                   ", known: " + listed({step_kinds.begin(), step_kinds.end()});
        }
        if (step.kept && *step.kept < 1) {
            return place + ".kept: " + std::to_string(*step.kept) +
                   ", expected null or at least 1";
        }
    }
    std::vector<std::size_t> calls_of(plan.steps.size());
    std::int64_t last = 0;
    for (std::size_t i = 0; i < plan.calls.size(); ++i) {
        if (!plan.calls[i].step) continue;
        const std::int64_t step = *plan.calls[i].step;
        const std::string place = place_of(i) + ".step: " + std::to_string(step);
        if (step >= step_count) {
            return place + ", but there are " + std::to_string(step_count) + " steps";
        }
        if (step < last) return place + " after " + std::to_string(last) + "; steps do not fall";
        last = step;
        ++calls_of[static_cast<std::size_t>(step)];
    }
    for (std::size_t s = 0; s < plan.steps.size(); ++s) {
        const std::size_t expected = plan.steps[s].kind == "skip" ? 0 : 1;
        if (calls_of[s] != expected) {
            return "steps[" + std::to_string(s) + "]: calls of kind " + plan.steps[s].kind +
                   ": expected " + std::to_string(expected) + ", found " +
                   std::to_string(calls_of[s]);
        }
    }
    return std::nullopt;
}

}  // namespace keepstep::internal
