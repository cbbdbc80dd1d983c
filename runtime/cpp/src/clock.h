// The clock that runs are measured with.
#pragma once

#include <chrono>

namespace keepstep::internal {

using Clock = std::chrono::steady_clock;

inline double seconds_between(Clock::time_point begin, Clock::time_point end) {
    return std::chrono::duration<double>(end - begin).count();
}

}  // namespace keepstep::internal
