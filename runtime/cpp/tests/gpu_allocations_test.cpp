// A run on a GPU allocates nothing: counted at `operator new`, with fakes that do nothing.
#include <doctest/doctest.h>

#include "allocations.h"
#include "fake_cuda.h"
#include "fake_tensorrt.h"
#include "gpu_toy.h"
#include "keepstep/bundle.h"
#include "toy_bundle.h"

namespace keepstep::tests {

TEST_CASE("a run allocates nothing once it is settled, as one graph or call by call") {
    fake_cuda() = {};
    fake_tensorrt() = {};
    const TemporaryFolder temporary;
    write_gpu_bundle(temporary.path(), backends().back());
    internal::BundleFolder folder(temporary.path().string(), true);
    fake_tensorrt().plan = &folder.plan("toy");
    const Bytes ids(512);
    const Bytes noise(256);
    Bytes image(64);
    for (const bool is_captured : {true, false}) {
        fake_cuda().host_nodes = !is_captured;
        auto player = Bundle::open(temporary.path().string())->player("toy", backends().back());
        REQUIRE_MESSAGE(player.ok(), player.status().message());
        const auto run = [&] {
            return player->run({{"token_ids", DType::int64, {1, 64}, ids.data(), ids.size()},
                                {"noise", DType::float32, {1, 64}, noise.data(), noise.size()}},
                               {{"image", DType::uint8, {1, 64}, image.data(), image.size()}});
        };
        for (int i = 0; i < 3; ++i) CHECK(run().ok());
        fake_cuda().is_idle = true;
        const std::size_t graphs = fake_cuda().graph_launches;
        const long before = allocations;
        const bool is_ok = run().ok();
        const long after = allocations;
        CHECK(is_ok);
        CHECK(after == before);
        CHECK(fake_cuda().graph_launches - graphs == (is_captured ? 1 : 0));
        fake_cuda().is_idle = false;
    }
}

}  // namespace keepstep::tests
