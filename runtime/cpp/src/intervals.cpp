#include "intervals.h"

#include <algorithm>
#include <iterator>

namespace keepstep::internal {

std::vector<std::pair<std::int64_t, std::int64_t>> IntervalSet::add(std::int64_t start,
                                                                    std::int64_t end) {
    std::vector<std::pair<std::int64_t, std::int64_t>> fresh;
    auto first = ends_.upper_bound(start);
    if (first != ends_.begin() && std::prev(first)->second >= start) --first;
    std::int64_t at = start;
    std::int64_t joined_start = start;
    std::int64_t joined_end = end;
    auto touched = first;
    for (; touched != ends_.end() && touched->first <= end; ++touched) {
        if (at < touched->first) fresh.emplace_back(at, touched->first);
        at = std::max(at, touched->second);
        joined_start = std::min(joined_start, touched->first);
        joined_end = std::max(joined_end, touched->second);
    }
    if (at < end) fresh.emplace_back(at, end);
    ends_.erase(first, touched);
    ends_.emplace(joined_start, joined_end);
    return fresh;
}

bool IntervalSet::covers(std::int64_t start, std::int64_t end) const {
    const auto behind = ends_.upper_bound(start);
    return behind != ends_.begin() && std::prev(behind)->second >= end;
}

bool IntervalSet::meets(std::int64_t start, std::int64_t end) const {
    const auto behind = ends_.lower_bound(end);  // the first that begins at `end` or later
    return behind != ends_.begin() && std::prev(behind)->second > start;
}

}  // namespace keepstep::internal
