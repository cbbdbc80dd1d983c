#include "backends/tensorrt_diagnostics.h"

#include <doctest/doctest.h>

#include "toy_bundle.h"

namespace keepstep::tests {

using internal::interface_fault;
using internal::OrderedMap;
using internal::refusal;
using internal::ToldErrors;
using internal::Type;
using internal::version_fault;

TEST_CASE("data types of TensorRT have the plan's names, and others their own") {
    CHECK(internal::tensorrt_dtype(0) == "float32");
    CHECK(internal::tensorrt_dtype(4) == "bool");
    CHECK(internal::tensorrt_dtype(7) == "bfloat16");
    CHECK(internal::tensorrt_dtype(8) == "int64");
    CHECK(internal::tensorrt_dtype(6) == "fp8");
    CHECK(internal::tensorrt_dtype(12) == "type 12");
    CHECK(internal::tensorrt_dtype(-1) == "type -1");
}

TEST_CASE("an engine with other tensors than the plan binds is told from one that fits") {
    OrderedMap<Type> plan;
    plan.add("x", {"float32", {1, 4}});
    plan.add("weight", {"float16", {4, 4}});
    CHECK(interface_fault(plan, plan) == "");
    OrderedMap<Type> engine;
    engine.add("x", {"float32", {1, 4}});
    CHECK(interface_fault(plan, engine) == "the engine has no 'weight', which the plan binds");
    CHECK(interface_fault(engine, plan) ==
          "the engine has 'weight', which the plan does not know");
    engine.add("weight", {"float16", {4, 8}});
    CHECK(interface_fault(plan, engine) ==
          "'weight': the plan has float16[4, 4], the engine float16[4, 8]");
}

TEST_CASE("a refusal has the library's diagnostics, its words and a way out") {
    CHECK(refusal(1U << 1, "a GPU", "why") ==
          "does not run on a GPU: UNSUPPORTED_CC; why; it has nothing for this GPU: play with "
          "another backend");
    CHECK(contains(refusal(1U << 0, "a GPU", "why"), "export the bundle again"));
    CHECK(contains(refusal(1U << 5, "a GPU", "why"), "MALFORMED_ENGINE; why; export"));
    CHECK(contains(refusal(1U << 3, "a GPU", "why"), "install a newer driver"));
    CHECK(contains(refusal(1U << 4, "a GPU", "why"), "close what else uses the GPU"));
    CHECK(refusal(0, "a GPU", "why") == "does not run on a GPU: why; play with another backend");
    CHECK(contains(refusal(1U << 6 | 1U << 2, "a GPU", "why"),
                   "OLD_CUDA_DRIVER; CUDA_ERROR; why; install a newer driver"));
    CHECK(contains(refusal(~std::uint64_t{0}, "a GPU", "why"), "CUDA_ERROR; why"));
}

TEST_CASE("a library of the same first number that is not older will do, and no other") {
    CHECK(version_fault(10701, 10601) == "");
    CHECK(version_fault(10601, 10601) == "");
    CHECK(contains(version_fault(10300, 10601), "compiled for 1.6.1 or a later 1.x"));
    CHECK_FALSE(version_fault(20000, 10601).empty());
    CHECK_FALSE(version_fault(101300, 110100).empty());
    CHECK(internal::version_text(110400) == "11.4.0");
}

TEST_CASE("the last two errors of a library are kept, each on one line") {
    ToldErrors errors;
    CHECK(errors.text() == "no reason was given");
    errors.add("first");
    CHECK(errors.text() == "first");
    errors.add("second\nline \x1B[31m");
    errors.add(std::string(10000, 'x'));
    CHECK(printable(errors.text()));
    CHECK(contains(errors.text(), "second line  [31m; xxx"));
    CHECK_FALSE(contains(errors.text(), "first"));
    CHECK(errors.text().size() < 1000);
    errors.clear();
    CHECK(errors.text() == "no reason was given");
}

}  // namespace keepstep::tests
