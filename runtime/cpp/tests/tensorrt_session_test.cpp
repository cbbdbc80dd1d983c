// The backend from a bundle's folder to its outputs, on a GPU and a library that the host plays.
#include "backends/tensorrt.h"

#include <doctest/doctest.h>

#include <numeric>
#include <optional>

#include "fake_cuda.h"
#include "fake_tensorrt.h"
#include "gpu_toy.h"
#include "keepstep/bundle.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

namespace fs = std::filesystem;

/// That of this build.
const std::string& backend() { return backends().back(); }

/// A bundle for the fakes. When a test ends nothing is left, and nothing was undefined.
struct Fakes {
    Fakes() {
        fake_cuda() = {};
        fake_tensorrt() = {};
        write_gpu_bundle(temporary.path(), backend());
        folder.emplace(temporary.path().string(), true);
        fake_tensorrt().plan = &folder->plan("toy");
        std::iota(ids.begin(), ids.end(), std::uint8_t{1});
    }
    ~Fakes() {
        CHECK(fake_cuda().left() == 0);
        CHECK(fake_tensorrt().left == 0);
        CHECK(fake_cuda().misuse == std::vector<std::string>{});
        CHECK(fake_tensorrt().misuse == std::vector<std::string>{});
    }

    Bundle bundle() { return Bundle::open(temporary.path().string()).value(); }
    Result<Player> player(const PlayerOptions& options = {}) {
        return bundle().player("toy", backend(), options);
    }
    Status run(Player& player) {
        const ConstTensor given[] = {
            {"token_ids", DType::int64, {1, 64}, ids.data(), ids.size()},
            {"noise", DType::float32, {1, 64}, noise.data(), noise.size()}};
        return player.run({given, 2}, {{"image", DType::uint8, {1, 64}, image.data(), 64}});
    }
    Bytes expected() { return image_of(*folder, folder->plan("toy"), ids, noise); }
    std::string refusal() {
        const auto opened = player();
        CHECK(opened.status().code() == StatusCode::backend_error);
        CHECK(printable(opened.status().message()));
        return opened.status().message();
    }
    std::vector<fs::path> caches() {
        std::vector<fs::path> found;
        for (const auto& entry : fs::directory_iterator(temporary.path() / "stages")) {
            if (entry.path().extension() == ".cache") found.push_back(entry.path());
        }
        return found;
    }

    TemporaryFolder temporary;
    std::optional<internal::BundleFolder> folder;
    Bytes ids = Bytes(512);
    Bytes noise = Bytes(256, 0x3F);
    Bytes image = Bytes(64);
};

}  // namespace

TEST_CASE_FIXTURE(Fakes, "a bundle is played, call by call and then as one graph") {
    auto opened = player();
    REQUIRE_MESSAGE(opened.ok(), opened.status().message());
    for (int i = 0; i < 3; ++i) {
        image.assign(64, 0);
        noise[7] = static_cast<std::uint8_t>(i);
        CHECK(run(*opened).ok());
        CHECK(image == expected());
    }
    CHECK(fake_cuda().graph_launches == 2);
}

TEST_CASE_FIXTURE(Fakes, "memory of a player lies on the GPU, and is given on the GPU") {
    auto opened = player();
    const auto own = opened->memory("noise");
    CHECK(own->device == Device::cuda);
    MutableTensor picture{"image", DType::uint8, {1, 64}, image.data(), 64, Device::cuda};
    ConstTensor given_ids{"token_ids", DType::int64, {1, 64}, ids.data(), 512, Device::cuda};
    CHECK(run(*opened).ok());
    image.assign(64, 0);
    CHECK(opened->run({given_ids, *own}, {picture}).ok());
    CHECK(image == expected());
}

TEST_CASE_FIXTURE(Fakes, "outputs that the host sees are looked at, and the first stage is found") {
    auto opened = player();
    std::vector<float> latents(64);
    const ConstTensor given[] = {{"token_ids", DType::int64, {1, 64}, ids.data(), ids.size()},
                                 {"noise", DType::float32, {1, 64}, noise.data(), noise.size()}};
    int bad = 0;
    for (int i = 0; i < 256; ++i) {  // the fakes write any bits: some of them are no numbers
        noise[4] = static_cast<std::uint8_t>(i);
        const Status status = opened->run({given, 2}, {tensor("latents", latents, {1, 64})});
        if (status.ok()) continue;
        ++bad;
        CHECK(status.code() == StatusCode::result_error);
        CHECK(contains(status.message(), "the first stage to give such numbers is '"));
        CHECK(run(*opened).ok());  // the picture alone cannot show it
        CHECK(image == expected());
    }
    CHECK(bad > 0);
    CHECK(bad < 256);
}

TEST_CASE_FIXTURE(Fakes, "players of a bundle share engines; each has contexts of its own") {
    const Bundle shared = bundle();
    auto one = shared.player("toy", backend());
    auto other = shared.player("toy", backend());
    REQUIRE(other.ok());
    CHECK(fake_tensorrt().deserialised == 5);
    CHECK(fake_tensorrt().contexts_made == 10);
    { const Player gone = *std::move(one); }
    CHECK(run(*other).ok());
    CHECK(image == expected());
}

#ifdef TRT_MAJOR_RTX
TEST_CASE_FIXTURE(Fakes, "what was compiled is kept beside each engine, and read again") {
    for (const bool is_first : {true, false}) {
        auto opened = player();
        CHECK(fake_tensorrt().caches_read == std::vector<std::string>(is_first ? 0 : 5, "kernels"));
        CHECK(run(*opened).ok());
        REQUIRE(caches().size() == 5);
        for (const fs::path& cache : caches()) {
            CHECK(contains(cache.filename().string(), "-00.onnx.NVIDIA-Fake-host-.cache"));
            CHECK(read(cache) == "kernels");
        }
    }
    fake_tensorrt().compiled = "kernels and more";
    auto opened = player();
    CHECK(run(*opened).ok());
    CHECK(read(caches().front()) == "kernels and more");
}

TEST_CASE_FIXTURE(Fakes, "engines that cannot be captured are played call by call") {
    fake_tensorrt().is_capturable = false;
    auto opened = player();
    for (int i = 0; i < 4; ++i) {
        CHECK(run(*opened).ok());
        CHECK(image == expected());
    }
    CHECK(fake_cuda().graph_launches == 0);
    CHECK(caches().size() == 5);
}
#endif

TEST_CASE_FIXTURE(Fakes, "a call that fails is told with its engine") {
    auto opened = player();
    fake_tensorrt().fails = true;
    const Status status = run(*opened);
    CHECK(status.code() == StatusCode::backend_error);
    CHECK(contains(status.message(), "stage 'text' (stages/text-00.onnx): calls[0] failed in " +
                                         internal::library_title()));
    fake_tensorrt().fails = false;
    CHECK(run(*opened).ok());  // nothing remains of it
    CHECK(image == expected());
}

TEST_CASE_FIXTURE(Fakes, "tensors on the GPU may be gone when a run has failed") {
    auto opened = player();
    fake_tensorrt().fails = true;
    {
        const Bytes gone = noise;
        const ConstTensor given[] = {
            {"token_ids", DType::int64, {1, 64}, ids.data(), ids.size()},
            {"noise", DType::float32, {1, 64}, gone.data(), gone.size(), Device::cuda}};
        CHECK_FALSE(opened->run({given, 2}).ok());
    }
    fake_tensorrt().fails = false;
    CHECK(run(*opened).ok());
    CHECK(image == expected());
}

TEST_CASE_FIXTURE(Fakes, "an engine that the library refuses is told with its diagnostics") {
    write(temporary.path() / "stages/full-00.onnx", "another");
    seal(temporary.path());
    CHECK(contains(refusal(), "stage 'full' (stages/full-00.onnx): " + internal::library_title()));
    CHECK(contains(refusal(), "does not run on NVIDIA Fake (host) (compute capability 9.0): "));
#ifdef TRT_MAJOR_RTX
    CHECK(contains(refusal(), "UNSUPPORTED_CC; no reason was given; it has nothing for this GPU"));
#endif
}

TEST_CASE_FIXTURE(Fakes, "an engine of another stage is refused by its tensors") {
    write(temporary.path() / "stages/full-00.onnx", "shallow");
    seal(temporary.path());
    CHECK(contains(refusal(), "inputs: the engine has no 'kernel', which the plan binds; export"));
}

TEST_CASE_FIXTURE(Fakes, "an engine that wants a tensor in host memory is refused") {
    fake_tensorrt().host_tensor = "coef";
    CHECK(contains(refusal(), "wants 'coef' in host memory"));
}

TEST_CASE_FIXTURE(Fakes, "a library that makes no context is told") {
    fake_tensorrt().refuses_contexts = true;
    CHECK(contains(refusal(), "cannot be made ready by " + internal::library_title()));
}

TEST_CASE_FIXTURE(Fakes, "without a GPU the other backends are named") {
    fake_cuda().device_error = cudaErrorNoDevice;
    CHECK(contains(refusal(), "no CUDA-capable device is detected (cudaErrorNoDevice)"));
    CHECK(contains(refusal(), "this build also has: 'null'"));
    fake_cuda().device_error = cudaSuccess;
}

TEST_CASE_FIXTURE(Fakes, "on the caller's stream a run of tensors on the GPU is only enqueued") {
    PlayerOptions options;
    options.cuda_stream = cudaStreamLegacy;
    auto opened = player(options);
    CHECK(run(*opened).ok());
    const Bytes before = image;
    noise[0] = 1;
    const ConstTensor given[] = {
        {"token_ids", DType::int64, {1, 64}, ids.data(), ids.size(), Device::cuda},
        {"noise", DType::float32, {1, 64}, noise.data(), noise.size(), Device::cuda}};
    const MutableTensor picture{"image", DType::uint8, {1, 64}, image.data(), 64, Device::cuda};
    CHECK(opened->run({given, 2}, {picture}).ok());
    CHECK(image == before);
    cudaStreamSynchronize(cudaStreamLegacy);
    CHECK(image == expected());
}

}  // namespace keepstep::tests
