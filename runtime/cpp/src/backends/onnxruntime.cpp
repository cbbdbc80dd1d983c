#include "backends/onnxruntime.h"

#include <utility>

#include "constants.h"
#include "error.h"
#include "quoting.h"

namespace keepstep::internal {

std::unique_ptr<Session> OnnxRuntimeSession::open(BundleFolder& bundle, const Plan& plan,
                                                  const PlayerOptions& options) {
    return std::unique_ptr<Session>(new OnnxRuntimeSession(bundle, plan, options));
}

OnnxRuntimeSession::OnnxRuntimeSession(BundleFolder& bundle, const Plan& plan,
                                       const PlayerOptions& options)
    : arena_(Pages::zeros(static_cast<std::size_t>(plan.arena_bytes))), options_(run_options()) {
    std::vector<std::shared_ptr<OnnxRuntimeEngine>> engines;
    const std::vector<std::string> paths = engine_paths(bundle, plan, "onnxruntime");
    for (std::size_t i = 0; i < paths.size(); ++i) {
        engines.push_back(
            load_engine(bundle, plan, plan.stages[i].first, paths[i], options.threads));
    }
    ConstantAddresses constants;
    for (const ConstantPart& part : constant_parts(plan)) {
        constants.emplace(part, host_bytes(bundle, plan, part).data);
    }
    for (const auto& [_, value] : plan.values) {
        places_.push_back(value.offset ? arena_.data() + *value.offset : nullptr);
    }
    const std::vector<CallAddresses> addresses = call_addresses(plan, arena_.data(), constants);
    for (std::size_t i = 0; i < plan.calls.size(); ++i) {
        const std::string& stage = plan.calls[i].stage;
        const auto& engine = engines[plan.stages.index_of(stage)];
        launches_.push_back({"plan " + quote(plan.name) + ": stage " + quote(stage) + " (calls[" +
                                 std::to_string(i) + "])",
                             engine, bound(*engine, plan.stages.at(stage), addresses[i])});
    }
}

void OnnxRuntimeSession::launch(std::size_t call) {
    const Launch& next = launches_[call];
    OrtSession* session = next.engine->session.get();
    if (const auto fault =
            ort_fault(ort().RunWithBinding(session, options_.get(), next.binding.get()))) {
        const auto memory = memory_fault(*fault);
        throw_backend_error(next.place + " failed in ONNX Runtime: " + *fault +
                            (memory ? "; " + *memory : ""));
    }
}

}  // namespace keepstep::internal
