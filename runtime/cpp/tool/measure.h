// What calls of the same stage and label took together.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "keepstep/player.h"

namespace keepstep::tool {

/// The calls of one stage in steps of one label.
struct Group {
    std::string stage;
    std::string label;  ///< such as "full"; empty outside of the sampler's steps
    std::size_t calls = 0;
    double seconds = 0;  ///< of all of them in one run
};

/// One run, or the medians of several.
struct Times {
    double seconds = 0;  ///< of the whole run
    std::vector<Group> groups;
};

/// The groups of a plan's calls, in the order of their first call; no time yet.
std::vector<Group> grouped(const std::vector<Call>& calls);

/// The times of runs of a plan, all of the same calls; of several each number is a median. There
/// is at least one run.
Times times_of(const std::vector<Call>& calls, const std::vector<Profile>& runs);

}  // namespace keepstep::tool
