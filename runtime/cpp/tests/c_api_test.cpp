#include <doctest/doctest.h>

#include <cstring>

#include "keepstep/keepstep.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

/// Checks an error's code and that its message holds `part`, and frees it.
void check_error(keepstep_error* error, keepstep_code code, const char* part, int rule = 0) {
    REQUIRE(error != nullptr);
    CHECK(keepstep_error_code(error) == code);
    CHECK(keepstep_error_rule(error) == rule);
    CHECK_MESSAGE(std::strstr(keepstep_error_message(error), part) != nullptr,
                  keepstep_error_message(error));
    keepstep_error_free(error);
}

struct Toy {
    Toy() {
        write_bundle(temporary.path());
        REQUIRE(keepstep_bundle_open(temporary.path().c_str(), nullptr, &bundle) == nullptr);
        REQUIRE(keepstep_player_open(bundle, "toy", "null", nullptr, &player) == nullptr);
    }
    ~Toy() {
        keepstep_bundle_free(bundle);
        keepstep_player_free(player);
    }

    TemporaryFolder temporary;
    keepstep_bundle* bundle = nullptr;
    keepstep_player* player = nullptr;
};

}  // namespace

TEST_CASE_FIXTURE(Toy, "a plan is played through the C interface") {
    CHECK(keepstep_bundle_plan_count(bundle) == 1);
    CHECK(std::strcmp(keepstep_bundle_plan(bundle, 0), "toy") == 0);
    CHECK(keepstep_bundle_plan(bundle, 1) == nullptr);
    CHECK(keepstep_player_count(player, KEEPSTEP_INPUT) == 2);
    CHECK(keepstep_player_count(player, KEEPSTEP_FEED) == 1);
    CHECK(keepstep_player_count(player, KEEPSTEP_OUTPUT) == 2);
    keepstep_tensor ids;
    keepstep_tensor noise;
    keepstep_tensor image;
    REQUIRE(keepstep_player_tensor(player, KEEPSTEP_INPUT, 0, &ids) == nullptr);
    REQUIRE(keepstep_player_tensor(player, KEEPSTEP_INPUT, 1, &noise) == nullptr);
    REQUIRE(keepstep_player_tensor(player, KEEPSTEP_OUTPUT, 1, &image) == nullptr);
    CHECK(std::strcmp(noise.name, "noise") == 0);
    CHECK(noise.dtype == KEEPSTEP_FLOAT32);
    CHECK(noise.axes == 2);
    CHECK(noise.shape[1] == 4);
    CHECK(noise.bytes == 16);
    const float mine[4] = {1, 2, 3, 4};
    noise.data = const_cast<float*>(mine);
    std::uint8_t picture[4] = {7, 7, 7, 7};
    image.data = picture;
    const keepstep_tensor inputs[] = {ids, noise};
    CHECK(keepstep_player_run(player, inputs, 2, &image, 1) == nullptr);
    CHECK(picture[0] == 0);
    CHECK(std::strcmp(keepstep_player_note(player), "") == 0);
}

TEST_CASE_FIXTURE(Toy, "an output that means nothing has a code of its own") {
    keepstep_tensor latents;
    keepstep_tensor inputs[2];
    REQUIRE(keepstep_player_tensor(player, KEEPSTEP_OUTPUT, 0, &latents) == nullptr);
    for (std::size_t i = 0; i < 2; ++i) {
        REQUIRE(keepstep_player_tensor(player, KEEPSTEP_INPUT, i, &inputs[i]) == nullptr);
    }
    // Nobody writes to an output of the backend that runs nothing, so this stays there.
    std::memset(latents.data, 0xFF, 4);
    check_error(keepstep_player_run(player, inputs, 2, nullptr, 0), KEEPSTEP_RESULT_ERROR,
                "1 of 4 elements of the output 'latents' are NaN or infinite; inputs in the "
                "player's own memory cannot be played once more");
    const float noise[4] = {1, 2, 3, 4};
    const std::int64_t ids[4] = {1, 2, 3, 4};
    for (keepstep_tensor& input : inputs) {
        const bool is_noise = std::strcmp(input.name, "noise") == 0;
        input.data = is_noise ? static_cast<void*>(const_cast<float*>(noise))
                              : static_cast<void*>(const_cast<std::int64_t*>(ids));
    }
    check_error(keepstep_player_run(player, inputs, 2, nullptr, 0), KEEPSTEP_RESULT_ERROR,
                "the first stage to give such numbers is 'final' (calls[3], 'latents')");
    std::memset(latents.data, 0, 4);
    CHECK(keepstep_player_run(player, inputs, 2, nullptr, 0) == nullptr);
}

TEST_CASE("a player or bundle that is NULL is an error, or has nothing") {
    const char* said = "expected one that is open, found NULL";
    keepstep_tensor tensor;
    keepstep_call call;
    double seconds = 0;
    check_error(keepstep_player_run(nullptr, nullptr, 0, nullptr, 0), KEEPSTEP_INPUT_ERROR, said);
    check_error(keepstep_player_profile(nullptr, nullptr, 0, nullptr, 0, &seconds, &seconds),
                KEEPSTEP_INPUT_ERROR, said);
    check_error(keepstep_player_tensor(nullptr, KEEPSTEP_INPUT, 0, &tensor), KEEPSTEP_INPUT_ERROR,
                said);
    check_error(keepstep_player_call(nullptr, 0, &call), KEEPSTEP_INPUT_ERROR, said);
    CHECK(keepstep_player_count(nullptr, KEEPSTEP_INPUT) == 0);
    CHECK(keepstep_player_call_count(nullptr) == 0);
    CHECK(keepstep_bundle_plan_count(nullptr) == 0);
    CHECK(keepstep_bundle_plan(nullptr, 0) == nullptr);
    CHECK(std::strcmp(keepstep_player_note(nullptr), "") == 0);
    keepstep_player_watch(nullptr, nullptr, nullptr);
    keepstep_player_free(nullptr);
    keepstep_bundle_free(nullptr);
}

TEST_CASE_FIXTURE(Toy, "errors tell who can mend them, and nothing is made") {
    keepstep_bundle* no_bundle = bundle;
    check_error(keepstep_bundle_open("nothing", nullptr, &no_bundle), KEEPSTEP_BUNDLE_ERROR,
                "no such folder");
    CHECK(no_bundle == nullptr);
    check_error(keepstep_bundle_open(nullptr, nullptr, &no_bundle), KEEPSTEP_INPUT_ERROR, "NULL");
    keepstep_player* no_player = player;
    check_error(keepstep_player_open(bundle, "x", "null", nullptr, &no_player),
                KEEPSTEP_INPUT_ERROR, "has no plan 'x'");
    CHECK(no_player == nullptr);
    check_error(keepstep_player_open(bundle, "toy", "x", nullptr, &no_player),
                KEEPSTEP_BACKEND_ERROR, "no backend 'x'");
    check_error(keepstep_player_open(nullptr, "toy", "x", nullptr, &no_player),
                KEEPSTEP_INPUT_ERROR, "NULL");
    keepstep_tensor tensor{};
    check_error(keepstep_player_tensor(player, KEEPSTEP_FEED, 1, &tensor), KEEPSTEP_INPUT_ERROR,
                "beyond the last");
    check_error(keepstep_player_tensor(player, static_cast<keepstep_role>(3), 0, &tensor),
                KEEPSTEP_INPUT_ERROR, "beyond the last");
    check_error(keepstep_player_run(player, nullptr, 1, nullptr, 0), KEEPSTEP_INPUT_ERROR, "NULL");
    check_error(keepstep_player_run(player, &tensor, 1, nullptr, 0), KEEPSTEP_INPUT_ERROR,
                "no input ''");
    check_error(keepstep_player_run(player, &tensor, 1000, nullptr, 0), KEEPSTEP_INPUT_ERROR,
                "more tensors");
}

TEST_CASE_FIXTURE(Toy, "runs are watched, ended and measured through the C interface") {
    keepstep_tensor inputs[2];
    float noise[4] = {1, 2, 3, 4};
    std::int64_t ids[4] = {1, 2, 3, 4};
    for (std::size_t i = 0; i < 2; ++i) {
        REQUIRE(keepstep_player_tensor(player, KEEPSTEP_INPUT, i, &inputs[i]) == nullptr);
    }
    inputs[0].data = ids;
    inputs[1].data = noise;
    std::size_t told = 0;
    keepstep_player_watch(
        player,
        [](std::size_t done, std::size_t, void* user) {
            *static_cast<std::size_t*>(user) = done;
            return done < 2 ? 1 : 0;
        },
        &told);
    check_error(keepstep_player_run(player, inputs, 2, nullptr, 0), KEEPSTEP_CANCELLED, "after 2");
    CHECK(told == 2);
    keepstep_player_watch(
        player,
        [](std::size_t, std::size_t, void* user) {
            keepstep_player_watch(static_cast<keepstep_player*>(user), nullptr, nullptr);
            return 1;
        },
        player);
    CHECK(keepstep_player_run(player, inputs, 2, nullptr, 0) == nullptr);
    CHECK(keepstep_player_run(player, inputs, 2, nullptr, 0) == nullptr);
    REQUIRE(keepstep_player_call_count(player) == 5);
    double seconds = -1;
    double call_seconds[5] = {-1, -1, -1, -1, -1};
    CHECK(keepstep_player_profile(player, inputs, 2, nullptr, 0, &seconds, call_seconds) ==
          nullptr);
    CHECK(seconds >= 0);
    for (const double call : call_seconds) CHECK(call >= 0);
    keepstep_call call{};
    CHECK(keepstep_player_call(player, 1, &call) == nullptr);
    CHECK(call.step == 0);
    CHECK(std::strcmp(call.label, "full") == 0);
    check_error(keepstep_player_call(player, 5, &call), KEEPSTEP_INPUT_ERROR, "beyond the last");
}

TEST_CASE("the C interface lists the backends of the build") {
    CHECK(std::strcmp(keepstep_backend(0), "null") == 0);
    CHECK(keepstep_backend(1000) == nullptr);
}

TEST_CASE_FIXTURE(Toy, "hashes are looked at unless they are skipped") {
    std::string content = read(temporary.path() / "weights.safetensors");
    content.back() ^= 1;
    write(temporary.path() / "weights.safetensors", content);
    keepstep_bundle* other = nullptr;
    check_error(keepstep_bundle_open(temporary.path().c_str(), nullptr, &other),
                KEEPSTEP_BUNDLE_ERROR, "SHA-256", 4);
    keepstep_bundle_options options{};
    options.skip_hashes = 1;
    CHECK(keepstep_bundle_open(temporary.path().c_str(), &options, &other) == nullptr);
    keepstep_bundle_free(other);
}

}  // namespace keepstep::tests
