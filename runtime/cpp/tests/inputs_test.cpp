#include "inputs.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "error.h"
#include "keepstep/bundle.h"
#include "plan.h"
#include "toy_bundle.h"

namespace keepstep::tests {

TEST_CASE("infinite halves and bools that are none are found") {
    const auto refused = [](DType dtype, const std::vector<std::uint8_t>& bytes) {
        return !internal::guarded_status([&] {
                    internal::check_elements(
                        {"x", dtype, {}, bytes.data(), bytes.size()});
                }).ok();
    };
    CHECK(refused(DType::float16, {0x00, 0x7C}));
    CHECK(refused(DType::float16, {0x01, 0xFC}));
    CHECK_FALSE(refused(DType::float16, {0xFF, 0x7B}));
    CHECK(refused(DType::bfloat16, {0x80, 0x7F}));
    CHECK_FALSE(refused(DType::bfloat16, {0x00, 0x7C}));
    CHECK(refused(DType::boolean, {0, 2}));
    CHECK_FALSE(refused(DType::boolean, {0, 1}));
    CHECK_FALSE(refused(DType::uint8, {0xFF}));
}

TEST_CASE("numbers outside of the range of their input are found and said") {
    const auto said = [](DType dtype, const auto& values, const internal::Range& range) {
        const std::size_t bytes = values.size() * sizeof values[0];
        const auto count = static_cast<std::int64_t>(bytes / item_bytes(dtype));
        return internal::guarded_status([&] {
                   internal::check_range({"x", dtype, {1, count}, values.data(), bytes}, range);
               })
            .message();
    };
    using Ints = std::vector<std::int64_t>;
    using Halves = std::vector<std::uint16_t>;
    CHECK(said(DType::int64, Ints{5, 49408, -1}, {0, 49407}) ==
          "input 'x': 49408 at [0, 1] lies outside of the range 0 to 49407, and so do 2 of 3 "
          "elements; the model knows no others: give what its own tokenizer, or the like, makes");
    CHECK(said(DType::int64, Ints{0, 49407}, {0, 49407}).empty());
    const std::int64_t most = std::int64_t{1} << 53;
    const internal::Range widest = {-std::ldexp(1.0, 53), std::ldexp(1.0, 53)};
    CHECK(said(DType::int64, Ints{most, -most}, widest).empty());
    CHECK(contains(said(DType::int64, Ints{most + 1}, widest), "9007199254740993 at [0, 0]"));
    CHECK(contains(said(DType::int32, std::vector<std::int32_t>{-3, -4}, {-3, 9}), "-4 at [0, 1]"));
    CHECK(contains(said(DType::uint8, std::vector<std::uint8_t>{255}, {0, 254}), "255 at"));
    CHECK(said(DType::float32, std::vector<float>{0.1F, 2}, {0.1, 2}).empty());
    CHECK(contains(said(DType::float32, std::vector<float>{2.5}, {0.1, 2}), "2.5 at [0, 0]"));
    CHECK(said(DType::float16, Halves{0x3C00, 0xC000, 0x0001, 0x7BFF}, {-2, 65504}).empty());
    CHECK(contains(said(DType::float16, Halves{0xC001}, {-2, 65504}), "-2.001953125 at"));
    CHECK(said(DType::bfloat16, Halves{0x3F80, 0xC000}, {-2, 1}).empty());
    CHECK(contains(said(DType::bfloat16, Halves{0x3F81}, {-2, 1}), "1.0078125 at"));
}

TEST_CASE("ids that the model does not know are refused") {
    const TemporaryFolder temporary;
    write_bundle(temporary.path());
    const std::vector<float> noise(4, 1);
    std::vector<std::int64_t> ids(4, 1);
    const ConstTensor noise_tensor = tensor("noise", noise, {1, 4});
    const ConstTensor ids_tensor = tensor("token_ids", std::as_const(ids), {1, 4});
    write(temporary.path() / "plans/toy.json",
          replaced(plan_text("valid/toy.json"), R"("shape": [1, 4], "offset": 0)",
                   R"("shape": [1, 4], "offset": 0, "range": [0, 6])"));
    seal(temporary.path());
    auto ranged = Bundle::open(temporary.path().string())->player("toy", "null");
    REQUIRE_MESSAGE(ranged.ok(), ranged.status().message());
    CHECK(ranged->run({noise_tensor, ids_tensor}).ok());
    for (const std::int64_t id : {-1, 7}) {
        ids[2] = id;
        const Status status = ranged->run({noise_tensor, ids_tensor});
        CHECK(status.code() == StatusCode::input_error);
        CHECK(contains(status.message(), std::to_string(id) + " at [0, 2] lies outside of the "
                                                              "range 0 to 6"));
        CHECK(ranged->profile({noise_tensor, ids_tensor}).status().code() ==
              StatusCode::input_error);
    }
    ids[2] = 6;
    CHECK(ranged->run({noise_tensor, ids_tensor}).ok());
}

}  // namespace keepstep::tests
