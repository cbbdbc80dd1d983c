#include "rules_memory.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <queue>
#include <set>
#include <tuple>
#include <unordered_map>

#include "addresses.h"
#include "intervals.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

/// The bytes [start, end) of a value that one tensor of one call is bound to.
struct Access {
    const std::string* tensor;
    const std::string* value_name;
    const Value* value;
    std::int64_t start;
    std::int64_t end;
};

/// Where in their values the bound tensors lie; constants, which nothing writes, left out.
std::vector<Access> accesses(const Plan& plan, const OrderedMap<Binding>& bound,
                             const OrderedMap<Type>& tensors) {
    std::vector<Access> found;
    for (const auto& [tensor, binding] : bound) {
        const Value& value = plan.values.at(binding.value);
        if (value.kind == "constant") continue;
        const std::int64_t start = begin_in_value(value.type, binding);
        found.push_back({&tensor, &binding.value, &value, start,
                         start + bytes_of(tensors.at(tensor))});
    }
    return found;
}

/// What one call reads and writes.
struct CallAccesses {
    std::string place;
    const Stage& stage;
    std::vector<Access> reads;
    std::vector<Access> writes;
};

/// The first finding of `find` over the calls in order.
template <class Find>
Finding first_of_calls(const Plan& plan, Find find) {
    for (std::size_t i = 0; i < plan.calls.size(); ++i) {
        const Call& call = plan.calls[i];
        const Stage& stage = plan.stages.at(call.stage);
        const CallAccesses found{"calls[" + std::to_string(i) + "]", stage,
                                 accesses(plan, call.reads, stage.inputs),
                                 accesses(plan, call.writes, stage.outputs)};
        if (Finding finding = find(found, static_cast<std::int64_t>(i))) return finding;
    }
    return std::nullopt;
}

using Bytes = std::unordered_map<const Value*, IntervalSet>;

/// First and last call at which a value is alive; −1 is before the first call.
struct Lifetime {
    std::int64_t birth;
    std::int64_t death;
    std::string name;
    const Value* value;
};

/// By birth; values that nothing touches are never alive.
std::vector<Lifetime> lifetimes(const Plan& plan) {
    std::vector<Lifetime> found;
    std::unordered_map<const Value*, std::size_t> known;
    const auto touch = [&](const std::string& name, const Value& value, std::int64_t call) {
        const auto [at, fresh] = known.emplace(&value, found.size());
        if (fresh) found.push_back({call, call, name, &value});
        found[at->second].death = call;
    };
    for (const auto& [name, value] : plan.values) {
        if (value.kind == "input" || value.kind == "state" || value.feed) touch(name, value, -1);
    }
    static_cast<void>(first_of_calls(plan, [&](const CallAccesses& call, std::int64_t i) {
        for (const Access& read : call.reads) touch(*read.value_name, *read.value, i);
        for (const Access& write : call.writes) touch(*write.value_name, *write.value, i);
        return Finding();
    }));
    for (Lifetime& life : found) {
        const std::string& kind = life.value->kind;
        if (kind == "output" || kind == "state") {
            life.death = static_cast<std::int64_t>(plan.calls.size());
        }
    }
    std::sort(found.begin(), found.end(), [](const Lifetime& a, const Lifetime& b) {
        return std::tie(a.birth, a.death, a.name) < std::tie(b.birth, b.death, b.name);
    });
    return found;
}

}  // namespace

Finding rule_14_aliasing(const Plan& plan) {
    struct InArena {
        std::int64_t start;
        std::int64_t end;
        const std::string* tensor;
    };
    const auto in_arena = [](const Access& access) {
        const std::int64_t offset = access.value->offset.value_or(0);
        return InArena{offset + access.start, offset + access.end, access.tensor};
    };
    return first_of_calls(plan, [&](const CallAccesses& call, std::int64_t) -> Finding {
        std::vector<InArena> written;
        std::transform(call.writes.begin(), call.writes.end(), std::back_inserter(written),
                       in_arena);
        std::sort(written.begin(), written.end(),
                  [](const InArena& a, const InArena& b) { return a.start < b.start; });
        IntervalSet occupied;
        for (std::size_t i = 0; i < written.size(); ++i) {
            if (i > 0 && written[i].start < written[i - 1].end) {
                return call.place + ".writes: " + *written[i - 1].tensor + " and " +
                       *written[i].tensor + " share bytes of the arena";
            }
            occupied.add(written[i].start, written[i].end);
        }
        std::set<std::string> in_place;  // inputs whose bytes are those of an output (rule 12)
        for (const auto& [_, input] : call.stage.in_place) in_place.insert(input);
        for (const Access& read : call.reads) {
            if (in_place.count(*read.tensor) != 0) continue;
            const InArena bytes = in_arena(read);
            if (occupied.meets(bytes.start, bytes.end)) {
                return call.place + ".reads." + *read.tensor +
                       ": the same call writes some of its bytes";
            }
        }
        return std::nullopt;
    });
}

Finding rule_15_written_before_read(const Plan& plan) {
    Bytes written;
    return first_of_calls(plan, [&](const CallAccesses& call, std::int64_t) -> Finding {
        for (const Access& read : call.reads) {
            const std::string& kind = read.value->kind;
            if (kind != "scratch" && kind != "output") continue;
            if (!written[read.value].covers(read.start, read.end)) {
                return call.place + ".reads." + *read.tensor +
                       ": no earlier call has written all of bytes " + std::to_string(read.start) +
                       " to " + std::to_string(read.end - 1) + " of " + quote(*read.value_name);
            }
        }
        for (const Access& write : call.writes) written[write.value].add(write.start, write.end);
        return std::nullopt;
    });
}

Finding rule_16_no_trace(const Plan& plan) {
    Bytes known;  // read or written so far
    Bytes cold;   // read before written
    static_cast<void>(first_of_calls(plan, [&](const CallAccesses& call, std::int64_t) {
        for (const Access& read : call.reads) {
            if (read.value->kind != "state") continue;
            for (const auto& [start, end] : known[read.value].add(read.start, read.end)) {
                cold[read.value].add(start, end);
            }
        }
        for (const Access& write : call.writes) known[write.value].add(write.start, write.end);
        return Finding();
    }));
    return first_of_calls(plan, [&](const CallAccesses& call, std::int64_t) -> Finding {
        for (const Access& write : call.writes) {
            const auto found = cold.find(write.value);
            if (found != cold.end() && found->second.meets(write.start, write.end)) {
                return call.place + ".writes." + *write.tensor + ": writes bytes of " +
                       quote(*write.value_name) +
                       " that the run reads before they are written; the next run would read "
                       "what this one left there";
            }
        }
        return std::nullopt;
    });
}

Finding rule_17_liveness(const Plan& plan) {
    using Place = std::tuple<std::int64_t, std::int64_t, std::string>;  // start, end, name
    using Death = std::pair<std::int64_t, Place>;
    std::set<Place> alive;  // disjoint
    std::priority_queue<Death, std::vector<Death>, std::greater<>> deaths;
    for (const Lifetime& life : lifetimes(plan)) {
        while (!deaths.empty() && deaths.top().first < life.birth) {
            alive.erase(deaths.top().second);
            deaths.pop();
        }
        const std::int64_t start = life.value->offset.value_or(0);
        const std::int64_t end = start + bytes_of(life.value->type);
        const auto born = alive.emplace(start, end, life.name).first;
        // While all that are alive are disjoint, only neighbours can meet.
        const Place* meets = nullptr;
        if (born != alive.begin() && std::get<1>(*std::prev(born)) > start) {
            meets = &*std::prev(born);
        } else if (std::next(born) != alive.end() && std::get<0>(*std::next(born)) < end) {
            meets = &*std::next(born);
        }
        if (meets != nullptr) {
            const std::string when = life.birth < 0
                                         ? "before the first call"
                                         : "at calls[" + std::to_string(life.birth) + "]";
            return "values " + quote(std::get<2>(*meets)) + " and " + quote(life.name) +
                   " share memory, both alive " + when;
        }
        deaths.emplace(life.death, *born);
    }
    return std::nullopt;
}

Finding rule_18_outputs(const Plan& plan) {
    Bytes written;
    static_cast<void>(first_of_calls(plan, [&](const CallAccesses& call, std::int64_t) {
        for (const Access& write : call.writes) written[write.value].add(write.start, write.end);
        return Finding();
    }));
    for (const auto& [name, value] : plan.values) {
        const std::int64_t bytes = bytes_of(value.type);
        if (value.kind == "output" && !written[&value].covers(0, bytes)) {
            return "values." + name + ": no call writes all of its " + std::to_string(bytes) +
                   " bytes";
        }
    }
    return std::nullopt;
}

}  // namespace keepstep::internal
