// Inputs that a run does without, because the plan says what they hold then.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "floats.h"
#include "inputs.h"
#include "keepstep/bundle.h"
#include "keepstep/keepstep.h"
#include "plan_json.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

/// The elements of a default's memory.
template <class T>
std::vector<T> filled(const internal::Plan& plan, const std::string& name) {
    const internal::Value& value = plan.values.at(name);
    const auto bytes =
        internal::default_bytes(*value.fallback, internal::public_type(name, value.type));
    std::vector<T> found(bytes.size() / sizeof(T));
    std::memcpy(found.data(), bytes.data(), bytes.size());
    return found;
}

/// The toy bundle, whose noise has a default.
struct Toy {
    Toy() {
        write_bundle(temporary.path());
        write(temporary.path() / "plans/toy.json",
              replaced(plan_text("valid/toy.json"), R"("shape": [1, 4], "offset": 256)",
                       R"("shape": [1, 4], "offset": 256, "default": [0.5, -2, 0, 1])"));
        seal(temporary.path());
    }

    TemporaryFolder temporary;
    const std::vector<float> noise = {0.5F, -2, 0, 1};
    const std::vector<std::int64_t> ids = std::vector<std::int64_t>(4, 1);
    ConstTensor ids_tensor = tensor("token_ids", ids, {1, 4});
};

}  // namespace

TEST_CASE("a default fills every dtype, as the Python runtime has it") {
    const auto plan = internal::plan_from_json(plan_text("valid/defaults.json"), "x");
    const float most = std::nextafter(std::ldexp(1.0F, 127), 0.0F) * 2;
    CHECK(filled<float>(plan, "float32") == std::vector<float>(3, -most));
    CHECK(filled<std::uint16_t>(plan, "float16") ==
          std::vector<std::uint16_t>{0x7BFF, 0xFBFF, 0x0001});
    CHECK(filled<std::uint16_t>(plan, "bfloat16") == std::vector<std::uint16_t>(3, 0x7F7F));
    const std::int64_t exact = std::int64_t{1} << 53;
    CHECK(filled<std::int64_t>(plan, "int64") == std::vector<std::int64_t>{-exact, exact, 0});
    CHECK(filled<std::int32_t>(plan, "int32") ==
          std::vector<std::int32_t>(3, std::int32_t{-2147483647} - 1));
    CHECK(filled<std::uint8_t>(plan, "uint8") == std::vector<std::uint8_t>(3, 255));
    CHECK(filled<std::uint8_t>(plan, "bool") == std::vector<std::uint8_t>{1, 0, 1});
    CHECK(filled<float>(plan, "noise") == std::vector<float>(4, 0.1F));
}

TEST_CASE("halves are rounded to nearest, ties to even") {
    using internal::bfloat16_of_number;
    using internal::half_of_number;
    CHECK(half_of_number(1) == 0x3C00);
    CHECK(half_of_number(-0.0F) == 0x8000);
    CHECK(half_of_number(0.1F) == 0x2E66);
    CHECK(half_of_number(2049) == 0x6800);   // a tie, down to 2048
    CHECK(half_of_number(2051) == 0x6802);   // a tie, up to 2052
    CHECK(half_of_number(4095) == 0x6C00);   // up to the next power of two
    CHECK(half_of_number(std::ldexp(1.0F, -25)) == 0);  // a tie with zero
    CHECK(half_of_number(std::ldexp(1.5F, -25)) == 1);
    CHECK(half_of_number(std::ldexp(1.0F, -14)) == 0x0400);
    CHECK(bfloat16_of_number(1) == 0x3F80);
    CHECK(bfloat16_of_number(0.1F) == 0x3DCD);
    CHECK(bfloat16_of_number(257) == 0x4380);
    CHECK(bfloat16_of_number(-259) == 0xC382);
    CHECK(bfloat16_of_number(std::ldexp(1.0F, -133)) == 1);
    for (std::uint32_t bits = 0; bits < 0x7C00; ++bits) {
        const auto half = static_cast<std::uint16_t>(bits);
        REQUIRE(half_of_number(static_cast<float>(internal::number_of_half(half))) == half);
    }
    for (std::uint32_t bits = 0; bits < 0x7F80; ++bits) {
        const auto half = static_cast<std::uint16_t>(bits);
        REQUIRE(bfloat16_of_number(static_cast<float>(internal::number_of_bfloat16(half))) == half);
    }
}

TEST_CASE_FIXTURE(Toy, "an input that is left out holds its default, in every run") {
    auto player = Bundle::open(temporary.path().string())->player("toy", "null");
    REQUIRE_MESSAGE(player.ok(), player.status().message());
    CHECK_FALSE(player->has_default("token_ids"));
    CHECK(player->has_default("noise"));
    CHECK_FALSE(player->has_default("nose"));
    const auto held = [&] {
        const auto* memory = static_cast<const float*>(player->memory("noise")->data);
        return std::vector<float>(memory, memory + 4);
    };
    REQUIRE(player->run({ids_tensor}).ok());
    CHECK(held() == noise);
    const std::vector<float> other(4, 7);
    REQUIRE(player->run({ids_tensor, tensor("noise", other, {1, 4})}).ok());
    CHECK(held() == other);
    REQUIRE(player->profile({ids_tensor}).ok());
    CHECK(held() == noise);
}

TEST_CASE_FIXTURE(Toy, "of inputs that are missing only those without a default are told") {
    auto player = Bundle::open(temporary.path().string())->player("toy", "null");
    CHECK(player->run({}).message() == "plan 'toy' also needs the input token_ids int64[1, 4]");
}

TEST_CASE_FIXTURE(Toy, "an input may be left out through the C interface as well") {
    keepstep_bundle* bundle = nullptr;
    keepstep_player* player = nullptr;
    REQUIRE(keepstep_bundle_open(temporary.path().c_str(), nullptr, &bundle) == nullptr);
    REQUIRE(keepstep_player_open(bundle, "toy", "null", nullptr, &player) == nullptr);
    CHECK(keepstep_player_has_default(player, 0) == 0);
    CHECK(keepstep_player_has_default(player, 1) == 1);
    CHECK(keepstep_player_has_default(player, 2) == 0);
    CHECK(keepstep_player_has_default(nullptr, 0) == 0);
    keepstep_tensor given;
    REQUIRE(keepstep_player_tensor(player, KEEPSTEP_INPUT, 0, &given) == nullptr);
    CHECK(keepstep_player_run(player, &given, 1, nullptr, 0) == nullptr);
    keepstep_tensor held;
    REQUIRE(keepstep_player_tensor(player, KEEPSTEP_INPUT, 1, &held) == nullptr);
    CHECK(std::memcmp(held.data, noise.data(), held.bytes) == 0);
    keepstep_player_free(player);
    keepstep_bundle_free(bundle);
}

}  // namespace keepstep::tests
