#include <doctest/doctest.h>

#include "error.h"
#include "plan_json.h"
#include "toy_bundle.h"
#include "validate.h"

namespace keepstep::tests {
namespace {

using internal::check_plan;
using internal::Plan;
using internal::plan_from_json;
using internal::Type;

internal::Value value(const char* kind, std::int64_t bytes, std::int64_t offset) {
    internal::Value made;
    made.kind = kind;
    made.type = {"uint8", {bytes}};
    made.offset = offset;
    return made;
}

/// A stage of byte tensors with one engine.
internal::Stage stage(const std::vector<std::pair<std::string, std::int64_t>>& inputs,
                      const std::vector<std::string>& outputs) {
    internal::Stage made;
    for (const auto& [name, bytes] : inputs) made.inputs.add(name, {"uint8", {bytes}});
    for (const std::string& name : outputs) made.outputs.add(name, {"uint8", {1}});
    made.engines.add("null", "x");
    return made;
}

}  // namespace

TEST_CASE("a message names the place and guesses the name") {
    const std::string text = plan_text("bad/12-unknown-value-read.json");
    const Status status =
        internal::guarded_status([&] { check_plan(plan_from_json(text, "x"), nullptr, "x"); });
    CHECK(status.message().find("x: calls[4].reads.latents: ") == 0);
    CHECK(status.message().find("did you mean") != std::string::npos);
}

TEST_CASE("constants must be as the plan says") {
    const Plan plan = plan_from_json(plan_text("valid/toy.json"), "x");
    const auto with_coef = [&](const std::optional<Type>& coef) {
        return internal::guarded_status([&] {
            const auto constants = [&](const std::string&, const std::string& tensor) {
                if (tensor == "coef") return coef;
                return std::optional<Type>(
                    plan.values.at(tensor == "times" ? "times" : "kernel").type);
            };
            check_plan(plan, constants, "x");
        });
    };
    CHECK(with_coef(Type{"float32", {3, 3}}).ok());
    const std::pair<std::optional<Type>, const char*> bad[] = {
        {std::nullopt, "holds no tensor 'coef'"},
        {Type{"float16", {3, 3}}, "expected float32[3, 3], found float16[3, 3]"},
        {Type{"float32", {9}}, "expected float32[3, 3], found float32[9]"}};
    for (const auto& [found, message] : bad) {
        const Status status = with_coef(found);
        CHECK(status.rule() == 10);
        CHECK(status.message().find(message) != std::string::npos);
    }
}

TEST_CASE("a tensor of thousands of axes is refused with a short message") {
    const Plan plan = plan_from_json(plan_text("valid/toy.json"), "x");
    const Type found{"float32", std::vector<std::int64_t>(100'000, 1)};
    const Status status = internal::guarded_status([&] {
        check_plan(plan, [&](const std::string&, const std::string&) { return found; }, "x");
    });
    CHECK(status.message().find("found float32[1, 1, 1, 1, 1, 1, 1, 1, …] in") !=
          std::string::npos);
    CHECK(status.message().size() < 1000);
}

TEST_CASE("thousands of calls in a scattered order are checked") {
    constexpr std::int64_t count = 5'000;
    Plan plan;
    plan.name = "long";
    plan.values.add("in", value("input", 1, 0));
    plan.values.add("rows", value("state", count, 256));
    plan.values.add("out", value("output", count, 1 << 20));
    plan.stages.add("s", stage({{"x", 1}}, {"y", "z"}));
    plan.arena_bytes = 1 << 21;
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t row = i < count / 2 ? 2 * i : 2 * (i - count / 2) + 1;
        internal::Call call;
        call.stage = "s";
        call.reads.add("x", {"in", std::nullopt});
        call.writes.add("y", {"rows", row});
        call.writes.add("z", {"out", row});
        plan.calls.push_back(call);
    }
    CHECK(internal::guarded_status([&] { check_plan(plan, nullptr, "x"); }).ok());
}

TEST_CASE("wide reads of a scattered state are checked") {
    constexpr std::int64_t count = 1'000;
    Plan plan;
    plan.name = "wide";
    plan.values.add("state", value("state", 2 * count, 0));
    plan.values.add("out", value("output", 1, 1 << 20));
    plan.stages.add("write", stage({}, {"y"}));
    plan.stages.add("read", stage({{"x", 2 * count}}, {"y"}));
    plan.arena_bytes = 1 << 21;
    for (std::int64_t i = 0; i < 2 * count; ++i) {
        internal::Call call;
        call.stage = i < count ? "write" : "read";
        if (i >= count) call.reads.add("x", {"state", std::nullopt});
        if (i < count) {
            call.writes.add("y", {"state", 2 * i});
        } else {
            call.writes.add("y", {"out", std::nullopt});
        }
        plan.calls.push_back(call);
    }
    CHECK(internal::guarded_status([&] { check_plan(plan, nullptr, "x"); }).ok());
}

}  // namespace keepstep::tests
