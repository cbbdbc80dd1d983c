// The backend that runs nothing: it counts launches, and every output is zeros.
//
// It plays any plan in microseconds and shows what the runtime itself costs.
#pragma once

#include <vector>

#include "backends/backend.h"
#include "memory.h"

namespace keepstep::internal {

/// Counts launches by stage. What the caller sees has memory of its own, so that nobody writes
/// where an output's zeros are.
class NullSession : public Session {
  public:
    explicit NullSession(const Plan& plan);

    std::byte* memory(std::size_t value) override { return places_[value]; }
    void launch(std::size_t call) override { ++launches_[stages_[call]]; }

    /// How often a stage was launched, by its place in `Plan::stages`.
    std::size_t launches(std::size_t stage) const { return launches_[stage]; }

  private:
    Pages pages_;
    std::vector<std::byte*> places_;     // by value; null for what no caller sees
    std::vector<std::size_t> stages_;    // by call
    std::vector<std::size_t> launches_;  // by stage
};

}  // namespace keepstep::internal
