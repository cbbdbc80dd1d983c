// The CPU, with ONNX Runtime.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "backends/onnxruntime_engine.h"
#include "memory.h"

namespace keepstep::internal {

/// One arena, and one prepared launch a call.
class OnnxRuntimeSession : public Session {
  public:
    /// Loads the plan's engines, or shares them with other players of the bundle.
    static std::unique_ptr<Session> open(BundleFolder& bundle, const Plan& plan,
                                         const PlayerOptions& options);

    std::byte* memory(std::size_t value) override { return places_[value]; }
    void launch(std::size_t call) override;

  private:
    struct Launch {
        std::string place;  // for messages
        std::shared_ptr<OnnxRuntimeEngine> engine;
        OwnedBinding binding;  // goes before its engine
    };
    OnnxRuntimeSession(BundleFolder& bundle, const Plan& plan, const PlayerOptions& options);

    Pages arena_;
    OwnedRunOptions options_;
    std::vector<std::byte*> places_;  // by value; null for constants
    std::vector<Launch> launches_;    // by call
};

}  // namespace keepstep::internal
