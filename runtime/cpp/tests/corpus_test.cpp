// The plans of tests/plans, which the Python runtime reads, too: the same verdict for each.
#include <doctest/doctest.h>

#include <set>

#include "error.h"
#include "plan_json.h"
#include "toy_bundle.h"
#include "validate.h"

namespace keepstep::tests {
namespace {

Status verdict(const std::string& text, const std::string& where) {
    return internal::guarded_status([&] {
        internal::check_plan(internal::plan_from_json(text, where), nullptr, where);
    });
}

}  // namespace

TEST_CASE("every valid plan is accepted") {
    const auto files = plan_files("valid");
    REQUIRE(files.size() > 10);
    for (const auto& file : files) {
        const Status status = verdict(read(file), file.filename());
        CHECK_MESSAGE(status.ok(), file.filename().string(), ": ", status.message());
    }
}

TEST_CASE("every bad plan is refused with the number of its rule") {
    std::set<int> rules;
    for (const auto& file : plan_files("bad")) {
        const std::string where = "plans/" + file.filename().string();
        const Status status = verdict(read(file), where);
        CAPTURE(where);
        CAPTURE(status.message());
        CHECK(status.code() == StatusCode::bundle_error);
        CHECK(status.rule() == std::stoi(file.filename().string().substr(0, 2)));
        CHECK(status.message().substr(0, where.size()) == where);
        CHECK(printable(status.message()));
        CHECK(status.message().size() < 1000);
        rules.insert(status.rule());
    }
    CHECK(rules.size() == 17);  // 1 to 19 but 4 and 10, which need more files than a plan
}

TEST_CASE("a plan cut short is refused as no JSON") {
    const std::string text = plan_text("valid/toy.json");
    const std::size_t end = text.find_last_of('}');
    for (std::size_t length = 0; length <= end; length += 7) {
        const Status status = verdict(text.substr(0, length), "x");
        REQUIRE_MESSAGE(status.rule() == 1, "cut at ", length, ": ", status.message());
    }
}

}  // namespace keepstep::tests
