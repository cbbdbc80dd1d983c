#include <doctest/doctest.h>

#include <bitset>
#include <ostream>  // doctest prints what differs
#include <random>

#include "intervals.h"

namespace keepstep::tests {

TEST_CASE("a set of intervals is a set of bytes") {
    constexpr std::size_t bytes = 40;
    std::mt19937 random(7);
    const auto below = [&](std::size_t n) { return random() % n; };
    for (int round = 0; round < 40; ++round) {
        internal::IntervalSet set;
        std::bitset<bytes> oracle;
        for (int i = 0; i < 12; ++i) {
            const std::size_t start = below(bytes - 1);
            const std::size_t end = start + 1 + below(bytes - start - 1);
            std::bitset<bytes> fresh;
            for (const auto& [from, to] : set.add(static_cast<std::int64_t>(start),
                                                  static_cast<std::int64_t>(end))) {
                REQUIRE(from < to);
                for (auto b = from; b < to; ++b) fresh.set(static_cast<std::size_t>(b));
            }
            std::bitset<bytes> added;
            for (std::size_t b = start; b < end; ++b) added.set(b);
            REQUIRE(fresh == (added & ~oracle));
            oracle |= added;
            bool agree = true;
            for (std::size_t from = 0; from < bytes; ++from) {
                bool any = false;
                bool all = true;
                for (std::size_t to = from + 1; to <= bytes; ++to) {
                    any = any || oracle[to - 1];
                    all = all && oracle[to - 1];
                    const auto s = static_cast<std::int64_t>(from);
                    const auto e = static_cast<std::int64_t>(to);
                    agree = agree && set.meets(s, e) == any && set.covers(s, e) == all;
                }
            }
            REQUIRE(agree);
        }
    }
}

}  // namespace keepstep::tests
