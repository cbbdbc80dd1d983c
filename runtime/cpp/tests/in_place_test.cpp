// A state that a stage changes in place, by a real engine: tests/bundles/cache, on the CPU. Its golden
// values were computed by numpy.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "keepstep/bundle.h"
#include "tensors.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

/// The bundle's player, and what it must give for `rows` and the defaults of the rest.
struct Cache {
    std::vector<float> golden(const char* name) const {
        std::vector<float> values(24);
        values.resize(static_cast<std::size_t>(internal::bytes_of(file.type(name).value())) / 4);
        std::memcpy(values.data(), file.data(name), 4 * values.size());
        return values;
    }
    /// Plays and checks what comes out.
    void played(const std::vector<ConstTensor>& inputs, const std::vector<float>& expected_cache) {
        std::vector<float> cache(24);
        std::vector<float> seen(18);
        const Status status = player->run(
            inputs, {tensor("cache", cache, {6, 4}), tensor("seen", seen, {3, 6})});
        REQUIRE_MESSAGE(status.ok(), status.message());
        CHECK(cache == expected_cache);
        last_seen = seen;
    }

    internal::TensorFile file{internal::File(KEEPSTEP_BUNDLES "/cache/golden/cache.safetensors"),
                              "golden"};
    Result<Player> player = Bundle::open(KEEPSTEP_BUNDLES "/cache")->player("cache");
    const std::vector<float> rows = golden("inputs.rows");
    ConstTensor rows_tensor = tensor("rows", rows, {3, 2, 4});
    std::vector<float> last_seen;
};

bool close(const std::vector<float>& found, const std::vector<float>& expected) {
    return std::equal(
        found.begin(), found.end(), expected.begin(), expected.end(),
        [](float a, float b) { return std::abs(a - b) <= 1e-5F * std::max(1.0F, std::abs(b)); });
}

}  // namespace

TEST_CASE_FIXTURE(Cache, "calls update a state in place, and nothing remains of a run") {
    REQUIRE_MESSAGE(player.ok(), player.status().message());
    const std::vector<float> cache = golden("outputs.cache");
    played({rows_tensor}, cache);
    CHECK(close(last_seen, golden("outputs.seen")));
    const std::vector<float> first = last_seen;

    const std::vector<float> start(24, 9);
    std::vector<float> with_start(24, 9);
    for (std::size_t place = 0; place < 6; ++place) {  // the row 3 is written by no call
        if (place == 3) continue;
        std::copy_n(cache.begin() + 4 * place, 4, with_start.begin() + 4 * place);
    }
    played({rows_tensor, tensor("start", start, {6, 4})}, with_start);
    CHECK(last_seen != first);

    played({rows_tensor}, cache);
    CHECK(last_seen == first);  // to the bit
}

TEST_CASE_FIXTURE(Cache, "a run in place is the same call by call") {
    std::vector<float> cache(24);
    std::vector<float> seen(18);
    const auto profile = player->profile(
        {rows_tensor}, {tensor("cache", cache, {6, 4}), tensor("seen", seen, {3, 6})},
        [](std::size_t, std::size_t) { return true; });
    REQUIRE(profile.ok());
    CHECK(profile->calls.size() == 5);
    CHECK(cache == golden("outputs.cache"));
    CHECK(close(seen, golden("outputs.seen")));
    CHECK(player->calls()[1].label == "two updates");
    CHECK(player->calls()[3].step == 1);
}

}  // namespace keepstep::tests
