// A run allocates nothing: counted at `operator new`.
#include <doctest/doctest.h>

#include "allocations.h"
#include "keepstep/bundle.h"
#include "keepstep/keepstep.h"
#include "toy_bundle.h"

namespace keepstep::tests {

TEST_CASE("a run allocates nothing") {
    const TemporaryFolder temporary;
    write_bundle(temporary.path());
    auto player = Bundle::open(temporary.path().string())->player("toy", "null");
    REQUIRE(player.ok());
    const std::vector<float> noise(4, 1);
    const std::vector<std::int64_t> ids(4, 1);
    std::vector<float> latents(4);
    std::vector<std::uint8_t> image(4);
    const auto run = [&] {
        return player->run({tensor("noise", noise, {1, 4}), tensor("token_ids", ids, {1, 4})},
                           {tensor("latents", latents, {1, 4}), tensor("image", image, {1, 4})});
    };
    const long before = allocations;
    REQUIRE(before > 0);
    for (int i = 0; i < 10; ++i) {
        if (!run().ok()) break;
    }
    const long after = allocations;
    CHECK(after == before);
    CHECK(run().ok());
}

TEST_CASE("a run through the C interface allocates nothing") {
    const TemporaryFolder temporary;
    write_bundle(temporary.path());
    keepstep_bundle* bundle = nullptr;
    REQUIRE(keepstep_bundle_open(temporary.path().c_str(), nullptr, &bundle) == nullptr);
    keepstep_player* player = nullptr;
    REQUIRE(keepstep_player_open(bundle, "toy", "null", nullptr, &player) == nullptr);
    keepstep_tensor inputs[2];
    for (std::size_t i = 0; i < 2; ++i) {
        REQUIRE(keepstep_player_tensor(player, KEEPSTEP_INPUT, i, &inputs[i]) == nullptr);
    }
    const long before = allocations;
    keepstep_error* error = keepstep_player_run(player, inputs, 2, nullptr, 0);
    const long after = allocations;
    CHECK(error == nullptr);
    CHECK(after == before);
    keepstep_player_free(player);
    keepstep_bundle_free(bundle);
}

}  // namespace keepstep::tests
