#include "measure.h"

#include <doctest/doctest.h>

#include "show.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

using tool::Group;

// A stage may be launched in steps of several labels, and outside of them.
const std::vector<Call> calls = {
    {"text", -1, ""}, {"full", 0, "full"}, {"full", 1, "shallow"}, {"full", 2, "full"},
    {"decode", -1, ""}};

Profile run(double whole, const std::vector<double>& seconds, std::size_t first = 0) {
    Profile profile{whole, {}};
    for (const double time : seconds) profile.calls.push_back({first++, time});
    return profile;
}

}  // namespace

TEST_CASE("calls of a stage and a label are one group, in the order of the first of them") {
    const std::vector<Group> groups = tool::grouped(calls);
    REQUIRE(groups.size() == 4);
    CHECK(groups[0].stage == "text");
    CHECK(groups[1].stage == "full");
    CHECK(groups[1].label == "full");
    CHECK(groups[1].calls == 2);
    CHECK(groups[2].label == "shallow");
    CHECK(groups[3].stage == "decode");
}

TEST_CASE("of several runs each number is a median, of those calls that were launched") {
    // Sums of powers of two: exact.
    const auto times = tool::times_of(
        calls, {run(8, {1, 2, 4, 8}, 1), run(2, {4, 8, 2, 4}, 1), run(4, {2, 1, 2, 1}, 1)});
    CHECK(times.seconds == 4);
    REQUIRE(times.groups.size() == 3);  // without the text
    CHECK(times.groups[0].seconds == 5);  // of 5, 6, 4
    CHECK(times.groups[0].calls == 2);
    CHECK(times.groups[1].seconds == 2);
    CHECK(times.groups[2].seconds == 4);
    CHECK(tool::times_of(calls, {run(1, {}), run(2, {})}).seconds == 1.5);
}

TEST_CASE("a table has a line a group, and shares are parts of all calls") {
    const tool::Played played{"toy", "null", 1, tool::times_of(calls, {run(4, {1, 1, 1, 0, 1})}),
                              {"a.png"}, "no graph"};
    const std::string text = tool::played_text(played);
    CHECK(contains(text, "a.png: toy, 4.00 s\n"));
    CHECK(contains(text, "full           full         2  1.00 s  500.0 ms   25 %\n"));
    CHECK(contains(text, "the whole run               5  4.00 s\n"));
    CHECK(contains(text, "\nno graph\n"));
    CHECK(contains(tool::played_json(played), "\"share\": 0.25"));
    CHECK(contains(tool::played_json(played), "\"note\": \"no graph\""));
}

TEST_CASE("a path that is no UTF-8 does not spoil the JSON") {
    const tool::Played played{"toy", "null", 1, tool::times_of(calls, {run(0, {0})}),
                              {"a\xFF.png"}, ""};
    CHECK(contains(tool::played_json(played), "a\\ufffd.png"));  // the sign for no character
}

}  // namespace keepstep::tests
