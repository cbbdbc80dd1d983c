// Sets of bytes as sorted, disjoint, non-touching intervals [start, end).
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace keepstep::internal {

/// A growing set of bytes. n calls of `add` cost O(n log n) in all.
class IntervalSet {
  public:
    /// Puts in the bytes [start, end); gives those intervals of it that are new.
    std::vector<std::pair<std::int64_t, std::int64_t>> add(std::int64_t start, std::int64_t end);
    /// Whether all bytes of [start, end) are in the set.
    bool covers(std::int64_t start, std::int64_t end) const;
    /// Whether any byte of [start, end) is in the set.
    bool meets(std::int64_t start, std::int64_t end) const;

  private:
    std::map<std::int64_t, std::int64_t> ends_;  // by start
};

}  // namespace keepstep::internal
