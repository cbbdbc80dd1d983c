// Meant for the thread sanitizer: what threads share they may share.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "keepstep/bundle.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

struct Inputs {
    std::vector<float> noise = std::vector<float>(4, 1);
    std::vector<std::int64_t> ids = std::vector<std::int64_t>(4, 1);

    Status run(Player& player) {
        return player.run({tensor("noise", std::as_const(noise), {1, 4}),
                           tensor("token_ids", std::as_const(ids), {1, 4})});
    }
};

}  // namespace

TEST_CASE("players of one bundle are opened and played on threads of their own") {
    const TemporaryFolder temporary;
    write_bundle(temporary.path());
    const auto bundle = Bundle::open(temporary.path().string());
    REQUIRE(bundle.ok());
    std::atomic<int> played = 0;
    const auto play = [&] {
        auto player = bundle->player("toy", "null");
        if (!player.ok()) return;
        Inputs inputs;
        for (int run = 0; run < 200; ++run) played += inputs.run(*player).ok() ? 1 : 0;
        played += bundle->tensor("weights.safetensors", "unet.kernel").ok() ? 1 : 0;
    };
    std::thread one(play);
    std::thread other(play);
    one.join();
    other.join();
    CHECK(played == 2 * 201);
}

TEST_CASE("one player on two threads plays or refuses") {
    const TemporaryFolder temporary;
    write_bundle(temporary.path());
    auto player = Bundle::open(temporary.path().string())->player("toy", "null");
    REQUIRE(player.ok());
    std::atomic<int> unexpected = 0;
    const auto play = [&] {
        Inputs inputs;
        for (int run = 0; run < 500; ++run) {
            const Status status = inputs.run(*player);
            const bool busy = status.message().find("playing already") != std::string::npos;
            unexpected += status.ok() || busy ? 0 : 1;
        }
    };
    std::thread one(play);
    std::thread other(play);
    one.join();
    other.join();
    CHECK(unexpected == 0);
}

}  // namespace keepstep::tests
