#include "backends/null.h"

namespace keepstep::internal {

NullSession::NullSession(const Plan& plan) : launches_(plan.stages.size()) {
    std::size_t size = 0;
    for (const auto& [_, value] : plan.values) {
        offsets_.push_back(size);
        if (value.kind == "input" || value.kind == "output" || value.feed) {
            const auto bytes = static_cast<std::size_t>(bytes_of(value.type));
            size += (bytes + alignment - 1) / alignment * alignment;
        }
    }
    pages_ = Pages::zeros(size);
    for (const Call& call : plan.calls) stages_.push_back(plan.stages.index_of(call.stage));
}

}  // namespace keepstep::internal
