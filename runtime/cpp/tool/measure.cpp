#include "measure.h"

#include <algorithm>

namespace keepstep::tool {
namespace {

/// The place of a call's group, which is made where it is the first of it.
std::size_t group_of(const Call& call, std::vector<Group>& groups) {
    const auto found = std::find_if(groups.begin(), groups.end(), [&](const Group& group) {
        return group.stage == call.stage && group.label == call.label;
    });
    if (found != groups.end()) return static_cast<std::size_t>(found - groups.begin());
    groups.push_back({call.stage, call.label, 0, 0});
    return groups.size() - 1;
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// The groups of the calls that a run has launched, with their times.
std::vector<Group> groups_of(const std::vector<Call>& calls, const Profile& run) {
    std::vector<Group> groups;
    for (const CallTime& time : run.calls) {
        Group& group = groups[group_of(calls[time.call], groups)];
        group.calls += 1;
        group.seconds += time.seconds;
    }
    return groups;
}

}  // namespace

std::vector<Group> grouped(const std::vector<Call>& calls) {
    std::vector<Group> groups;
    for (const Call& call : calls) groups[group_of(call, groups)].calls += 1;
    return groups;
}

Times times_of(const std::vector<Call>& calls, const std::vector<Profile>& runs) {
    std::vector<double> wholes;
    std::vector<std::vector<Group>> each;
    for (const Profile& run : runs) {
        wholes.push_back(run.seconds);
        each.push_back(groups_of(calls, run));
    }
    Times times{median(wholes), each.front()};
    for (std::size_t i = 0; i < times.groups.size(); ++i) {
        std::vector<double> seconds;
        for (const std::vector<Group>& groups : each) seconds.push_back(groups[i].seconds);
        times.groups[i].seconds = median(seconds);
    }
    return times;
}

}  // namespace keepstep::tool
