// Bytes as plans/x.json: a plan that is read and checked by every rule, or refused for one.
//
// What is accepted is played: byte by byte, and by the backend that runs nothing.
#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include "backends/null.h"
#include "demands.h"
#include "error.h"
#include "marked_arena.h"
#include "plan_json.h"
#include "program.h"
#include "validate.h"

namespace keepstep::fuzz {
namespace {

using internal::Plan;
using internal::Program;
using internal::Slot;
using internal::Type;

const std::string where = "plans/x.json";
// What a plan of a few kilobytes may claim is terabytes. These bounds let millions be played.
constexpr std::int64_t most_arena_bytes = 1 << 14;
constexpr std::size_t most_calls = 64;
constexpr std::size_t most_visible_bytes = 1 << 16;

/// The constants of the toy plan of tests/plans, in every file.
std::optional<Type> toy_constant(const std::string&, const std::string& tensor) {
    static const std::map<std::string, Type> types = {{"coef", {"float32", {3, 3}}},
                                                      {"times", {"float32", {2, 4}}},
                                                      {"unet.kernel", {"float32", {4, 4}}}};
    const auto found = types.find(tensor);
    if (found == types.end()) return std::nullopt;
    return found->second;
}

/// Whether a plan keeps every rule; demands that it is refused for one of them otherwise.
bool accepted(const Plan& plan) {
    const auto verdict = [&](const internal::Constants& constants) {
        return internal::guarded_status([&] { internal::check_plan(plan, constants, where); });
    };
    Status status = verdict(toy_constant);
    if (status.rule() == 10) {
        demand_refusal(status, 10, 10);
        status = verdict(nullptr);  // other constants are to reach the rules behind, too
        demand(status.ok() || status.rule() > 10, "rules go upwards:", status.message());
    }
    if (!status.ok()) demand_refusal(status, 3, 19);
    return status.ok();
}

/// What is launched when every input is given, and every feed, too, if `fed`.
std::vector<std::size_t> launches_of(const Program& program, bool fed) {
    std::vector<bool> given;
    for (const Slot& slot : program.slots) {
        given.push_back(slot.kind == Slot::Kind::input || (fed && slot.kind == Slot::Kind::feed));
    }
    std::vector<std::size_t> launches;
    internal::calls_to_launch(program, given, launches);
    return launches;
}

/// Opens the null backend, and demands that outputs stay zeros whatever is given.
void play_null(const Plan& plan, const Program& program) {
    std::size_t visible = 0;
    for (const Slot& slot : program.slots) {
        visible += std::min(slot.type.bytes, most_visible_bytes + 1);
    }
    if (visible > most_visible_bytes) return;
    internal::NullSession session(plan);
    for (const Slot& slot : program.slots) {
        if (slot.kind == Slot::Kind::output) continue;
        std::memset(session.memory(slot.value), 1, slot.type.bytes);
    }
    for (const std::size_t call : launches_of(program, false)) session.launch(call);
    for (const Slot& slot : program.slots) {
        if (slot.kind != Slot::Kind::output) continue;
        const std::byte* memory = session.memory(slot.value);
        const bool zeros = std::all_of(memory, memory + slot.type.bytes,
                                       [](std::byte byte) { return byte == std::byte{0}; });
        demand(zeros, "an output is zeros:", slot.type.name);
    }
}

void play_marked(const Plan& plan, const Program& program) {
    if (plan.arena_bytes > most_arena_bytes || plan.calls.size() > most_calls) return;
    MarkedArena arena(plan);
    // Every kind of run behind every kind.
    for (const bool fed : {false, false, true, true, false}) {
        arena.run(launches_of(program, fed), fed);
    }
}

}  // namespace
}  // namespace keepstep::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace keepstep;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    internal::Plan plan;
    const Status status =
        internal::guarded_status([&] { plan = internal::plan_from_json(text, fuzz::where); });
    if (!status.ok()) {
        fuzz::demand_refusal(status, 1, 2);
        return 0;
    }
    if (!fuzz::accepted(plan)) return 0;
    const internal::Program program(plan);
    fuzz::play_null(plan, program);
    fuzz::play_marked(plan, program);
    return 0;
}
