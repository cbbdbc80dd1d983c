// One run at a time.
#pragma once

#include <atomic>

#include "error.h"

namespace keepstep::internal {

/// Keeps other threads out as long as it lives. Throws an input error where one is in already.
class ExclusiveUse {
  public:
    explicit ExclusiveUse(std::atomic_flag& playing) : playing_(playing) {
        if (playing_.test_and_set(std::memory_order_acquire)) {
            throw_input_error(
                "this player is playing already, in another thread or in its own progress "
                "callback; make a second player of the bundle, they share engines and weights");
        }
    }
    ExclusiveUse(const ExclusiveUse&) = delete;
    ExclusiveUse& operator=(const ExclusiveUse&) = delete;
    ~ExclusiveUse() { playing_.clear(std::memory_order_release); }

  private:
    std::atomic_flag& playing_;
};

}  // namespace keepstep::internal
