#include "backends/null.h"

namespace keepstep::internal {

NullSession::NullSession(const Plan& plan) : launches_(plan.stages.size()) {
    const auto is_seen = [](const Value& value) {
        return value.kind == "input" || value.kind == "output" || value.feed;
    };
    const auto room = [](const Value& value) {
        const auto bytes = static_cast<std::size_t>(bytes_of(value.type));
        return (bytes + alignment - 1) / alignment * alignment;
    };
    std::size_t size = 0;
    for (const auto& [_, value] : plan.values) size += is_seen(value) ? room(value) : 0;
    pages_ = Pages::zeros(size);
    std::byte* next = pages_.data();
    for (const auto& [_, value] : plan.values) {
        places_.push_back(is_seen(value) ? next : nullptr);
        if (is_seen(value)) next += room(value);
    }
    for (const Call& call : plan.calls) stages_.push_back(plan.stages.index_of(call.stage));
}

}  // namespace keepstep::internal
