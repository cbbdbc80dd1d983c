#include "program.h"

#include <algorithm>
#include <set>
#include <utility>

#include "addresses.h"
#include "error.h"
#include "inputs.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

std::vector<Slot> slots_of(const Plan& plan) {
    std::vector<Slot> slots;
    for (std::size_t i = 0; i < plan.values.size(); ++i) {
        const auto& [name, value] = plan.values[i];
        if (value.kind != "input" && value.kind != "output" && !value.feed) continue;
        const Slot::Kind kind = value.feed               ? Slot::Kind::feed
                                : value.kind == "output" ? Slot::Kind::output
                                                         : Slot::Kind::input;
        const TensorType type = public_type(name, value.type);
        std::vector<std::byte> fallback;
        if (value.fallback) fallback = default_bytes(*value.fallback, type);
        slots.push_back({kind, type, i, value.range, std::move(fallback)});
    }
    std::sort(slots.begin(), slots.end(),
              [](const Slot& a, const Slot& b) { return a.type.name < b.type.name; });
    return slots;
}

/// The slots of one kind among what tensors are bound to, each once.
std::vector<std::size_t> bound_slots(const Program& program, const OrderedMap<Binding>& bound,
                                     Slot::Kind kind) {
    std::vector<std::size_t> found;
    for (const auto& [_, binding] : bound) {
        const Slot* slot = program.find(binding.value);
        if (slot == nullptr || slot->kind != kind) continue;
        found.push_back(static_cast<std::size_t>(slot - program.slots.data()));
    }
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

std::vector<Written> floats_written(const Plan& plan, const Call& call) {
    std::vector<Written> found;
    for (const auto& [tensor, binding] : call.writes) {
        const Type& type = plan.stages.at(call.stage).outputs.at(tensor);
        const DType dtype = dtype_named(type.dtype).value();
        if (!is_float(dtype)) continue;
        const std::int64_t begin = begin_in_value(plan.values.at(binding.value).type, binding);
        found.push_back({tensor, dtype, plan.values.index_of(binding.value),
                         static_cast<std::size_t>(begin),
                         static_cast<std::size_t>(bytes_of(type))});
    }
    return found;
}

/// The names of those slots that are given, or of those that are not.
std::vector<std::string> names(const Program& program, const std::vector<std::size_t>& slots,
                               const std::vector<bool>& given, bool are_given) {
    std::vector<std::string> found;
    for (const std::size_t slot : slots) {
        if (given[slot] == are_given) found.push_back(program.slots[slot].type.name);
    }
    return found;
}

/// Refuses a run when an input is not given, and has no default, that a launched call reads; it
/// tells all of them.
void check_inputs(const Program& program, const std::vector<std::size_t>& launches,
                  const std::vector<bool>& given) {
    const auto is_there = [&](std::size_t slot) {
        return given[slot] || program.slots[slot].has_default();
    };
    const auto has_inputs = [&](std::size_t call) {
        const std::vector<std::size_t>& inputs = program.calls[call].inputs;
        return std::all_of(inputs.begin(), inputs.end(), is_there);
    };
    if (std::all_of(launches.begin(), launches.end(), has_inputs)) return;
    std::set<std::size_t> missing;
    for (const std::size_t call : launches) {
        for (const std::size_t slot : program.calls[call].inputs) {
            if (!is_there(slot)) missing.insert(slot);
        }
    }
    std::string text;
    for (const std::size_t slot : missing) {
        const TensorType& type = program.slots[slot].type;
        text += (text.empty() ? "" : ", ") + escape(type.name) + " " +
                type_text(type.dtype, type.shape);
    }
    throw_input_error("plan " + quote(program.plan) + " also needs the input " + text);
}

}  // namespace

Program::Program(const Plan& plan) : plan(plan.name), slots(slots_of(plan)) {
    for (const Call& call : plan.calls) {
        calls.push_back({bound_slots(*this, call.reads, Slot::Kind::input),
                         bound_slots(*this, call.writes, Slot::Kind::feed)});
        written.push_back(floats_written(plan, call));
    }
}

const Slot* Program::find(std::string_view name) const noexcept {
    const auto found = std::lower_bound(
        slots.begin(), slots.end(), name,
        [](const Slot& slot, std::string_view wanted) { return slot.type.name < wanted; });
    return found == slots.end() || found->type.name != name ? nullptr : &*found;
}

void calls_to_launch(const Program& program, const std::vector<bool>& given,
                     std::vector<std::size_t>& launches) {
    const auto is_given = [&](std::size_t slot) { return given[slot]; };
    launches.clear();
    for (std::size_t i = 0; i < program.calls.size(); ++i) {
        const std::vector<std::size_t>& feeds = program.calls[i].feeds;
        const auto fed = std::count_if(feeds.begin(), feeds.end(), is_given);
        if (fed != 0 && static_cast<std::size_t>(fed) == feeds.size()) continue;
        if (fed != 0) {
            throw_input_error("plan " + quote(program.plan) + ": with " +
                              quote_names(names(program, feeds, given, true)) + " give " +
                              quote_names(names(program, feeds, given, false)) +
                              ", too: one call computes them all; or give none of them");
        }
        launches.push_back(i);
    }
    check_inputs(program, launches, given);
}

}  // namespace keepstep::internal
