// Sessions of a GPU, on one that the host plays: what is launched, when, and in what memory.
#include "backends/cuda_session.h"

#include <doctest/doctest.h>

#include <memory>
#include <numeric>
#include <optional>

#include "error.h"
#include "fake_cuda.h"
#include "gpu_toy.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

/// Launches what stands for the stages.
class ToySession : public internal::CudaSession {
  public:
    ToySession(internal::BundleFolder& bundle, const internal::Plan& plan,
               cudaStream_t stream = nullptr)
        : CudaSession(bundle, plan, internal::current_gpu(), stream), plan_(plan) {}
    ~ToySession() override { begin_closing(); }

    int warm_ups = 0;

  protected:
    void enqueue(std::size_t call, cudaStream_t stream) override {
        const std::string& stage = plan_.calls[call].stage;
        const Tensors tensors = tensors_of(plan_, call, addresses()[call], constants());
        internal::check_cuda(
            fake_launch(stream, [this, stage, tensors] { play_stage(plan_, stage, tensors); }),
            "launch");
    }
    void warmed_up() override { ++warm_ups; }

  private:
    const internal::Plan& plan_;
};

/// The toy plan, inputs for it, and what its outputs must be.
struct Gpu {
    Gpu() {
        fake_cuda() = {};
        write_gpu_bundle(temporary.path(), "null");
        bundle.emplace(temporary.path().string(), true);
        plan = &bundle->plan("toy");
        std::iota(ids.begin(), ids.end(), std::uint8_t{3});
        std::iota(noise.begin(), noise.end(), std::uint8_t{50});
    }
    ~Gpu() {
        bundle.reset();
        CHECK(fake_cuda().left() == 0);
        CHECK(fake_cuda().misuse == std::vector<std::string>{});
    }

    std::unique_ptr<ToySession> session(cudaStream_t stream = nullptr) {
        return std::make_unique<ToySession>(*bundle, *plan, stream);
    }
    std::size_t value(const char* name) const { return plan->values.index_of(name); }

    Bytes expected() { return image_of(*bundle, *plan, ids, noise); }

    void write(ToySession& session) {
        // From copies that are gone at once.
        const auto given_ids = std::make_unique<Bytes>(ids);
        const auto given_noise = std::make_unique<Bytes>(noise);
        session.write(session.memory(value("token_ids")), on_host(*given_ids));
        session.write(session.memory(value("noise")), on_host(*given_noise));
    }
    Bytes image(ToySession& session) {
        Bytes image(64, 0xAA);
        session.read({"image", DType::uint8, {1, 64}, image.data(), image.size()},
                     session.memory(value("image")));
        session.finish(true);
        return image;
    }
    Bytes run(ToySession& session) {
        write(session);
        session.play(all);
        return image(session);
    }
    static ConstTensor on_host(const Bytes& bytes) {
        return {"", DType::uint8, {}, bytes.data(), bytes.size()};
    }

    TemporaryFolder temporary;
    std::optional<internal::BundleFolder> bundle;
    const internal::Plan* plan = nullptr;
    const std::vector<std::size_t> all = {0, 1, 2, 3, 4};
    Bytes ids = Bytes(512);
    Bytes noise = Bytes(256);
};

}  // namespace

TEST_CASE_FIXTURE(Gpu, "the first run is launched call by call, every later one is one graph") {
    const auto player = session();
    CHECK(run(*player) == expected());
    CHECK(fake_cuda().graph_launches == 0);
    CHECK(player->warm_ups == 1);
    noise[3] = 9;  // values in memory change without a new capture
    CHECK(run(*player) == expected());
    CHECK(run(*player) == expected());
    CHECK(fake_cuda().graph_launches == 2);
    CHECK(fake_cuda().devices.size() == 10);  // five launched, five recorded
    CHECK(player->warm_ups == 1);
}

TEST_CASE_FIXTURE(Gpu, "each list of calls has a graph of its own") {
    const auto player = session();
    const std::vector<std::size_t> fed = {1, 2, 3, 4};
    run(*player);
    run(*player);
    player->play(fed);
    CHECK(fake_cuda().graph_launches == 1);
    player->play(fed);
    CHECK(fake_cuda().graph_launches == 2);
    CHECK(run(*player) == expected());
    CHECK(fake_cuda().graph_launches == 3);
}

TEST_CASE_FIXTURE(Gpu, "a capture is tried three times, then calls are launched one by one") {
    fake_cuda().launch_error = cudaErrorStreamCaptureUnsupported;
    const auto player = session();
    for (int i = 0; i < 5; ++i) CHECK(run(*player) == expected());
    CHECK(fake_cuda().graph_launches == 0);
    CHECK(fake_cuda().devices.size() == 5 * 5 + 3);  // the first recorded launch failed
    CHECK(contains(player->note(), "one by one, not as one CUDA graph"));
    CHECK(printable(player->note()));
}

TEST_CASE_FIXTURE(Gpu, "a capture that fails once is tried again behind the next run") {
    fake_cuda().launch_error = cudaErrorStreamCaptureUnsupported;
    const auto player = session();
    run(*player);
    CHECK_FALSE(player->note().empty());
    fake_cuda().launch_error = cudaSuccess;
    run(*player);
    CHECK(run(*player) == expected());
    CHECK(fake_cuda().graph_launches == 1);
    CHECK(player->note().empty());
}

TEST_CASE_FIXTURE(Gpu, "a graph that calls the host is not played") {
    fake_cuda().host_nodes = true;
    const auto player = session();
    for (int i = 0; i < 5; ++i) CHECK(run(*player) == expected());
    CHECK(fake_cuda().graph_launches == 0);
}

TEST_CASE_FIXTURE(Gpu, "on the caller's stream a run of tensors on the GPU is only enqueued") {
    // The legacy stream, too, which cannot be captured.
    for (const bool is_legacy : {false, true}) {
        cudaStream_t stream = cudaStreamLegacy;
        if (!is_legacy) cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
        {
            const auto player = session(stream);
            run(*player);
            Bytes picture(64, 0xAA);
            ConstTensor given = on_host(noise);
            given.device = Device::cuda;
            noise[0] = 77;
            player->write(player->memory(value("token_ids")), on_host(ids));
            player->write(player->memory(value("noise")), given);
            player->play(all);
            player->read({"image", DType::uint8, {1, 64}, picture.data(), 64, Device::cuda},
                         player->memory(value("image")));
            player->finish(false);
            CHECK(picture == Bytes(64, 0xAA));
            cudaStreamSynchronize(stream);
            CHECK(picture == expected());
        }
        CHECK(fake_cuda().graph_launches == (is_legacy ? 2 : 1));
        if (!is_legacy) cudaStreamDestroy(stream);
    }
}

TEST_CASE_FIXTURE(Gpu, "on a stream of its own a run is done when it ends") {
    const auto player = session();
    write(*player);
    player->play(all);
    Bytes picture(64, 0xAA);
    player->read({"image", DType::uint8, {1, 64}, picture.data(), 64, Device::cuda},
                 player->memory(value("image")));
    player->finish(false);
    CHECK(picture == expected());
}

TEST_CASE_FIXTURE(Gpu, "players of a bundle share its constants, to the last of them") {
    auto one = session();
    const std::size_t memories = fake_cuda().memories;
    auto other = session();
    CHECK(fake_cuda().memories == memories + 1);  // an arena
    one.reset();
    CHECK(run(*other) == expected());
    other.reset();
    CHECK(fake_cuda().memories == 0);
    CHECK(run(*session()) == expected());  // they are uploaded once more
}

TEST_CASE_FIXTURE(Gpu, "a profile measures every call and the whole, and leaves the outputs") {
    const auto player = session();
    write(*player);
    const internal::Times times = player->timed(all, [&] { write(*player); });
    CHECK(image(*player) == expected());
    // A second passes from one event to the next here.
    CHECK(times.calls == std::vector<double>(5, 1.0));
    CHECK(times.seconds == 1);
    CHECK(fake_cuda().graph_launches == 1);
}

TEST_CASE_FIXTURE(Gpu, "a profile ends also where nothing can be captured") {
    fake_cuda().host_nodes = true;
    const auto player = session();
    write(*player);
    CHECK(player->timed(all, [&] { write(*player); }).calls.size() == 5);
    CHECK(image(*player) == expected());
}

TEST_CASE_FIXTURE(Gpu, "a player plays on its own GPU, whichever is current, and leaves that so") {
    fake_cuda().device = 1;
    auto player = session();
    fake_cuda().device = 0;
    run(*player);
    player->launch(0);
    player->wait();
    CHECK(fake_cuda().devices == std::vector<int>(11, 1));
    player.reset();
    CHECK(fake_cuda().device == 0);
}

TEST_CASE_FIXTURE(Gpu, "a session that cannot be made gives back what it has") {
    internal::Plan large = *plan;
    large.arena_bytes = std::int64_t{1} << 50;
    const Status status = internal::guarded_status([&] { ToySession(*bundle, large); });
    CHECK(status.code() == StatusCode::backend_error);
    CHECK(contains(status.message(), "allocate 1125899906842624 bytes (1000 are free)"));
}

TEST_CASE_FIXTURE(Gpu, "where there is no GPU CUDA's own words are told") {
    fake_cuda().device_error = cudaErrorNoDevice;
    const Status status = internal::guarded_status([] { internal::current_gpu(); });
    CHECK(status.message() ==
          "CUDA could not find a GPU: no CUDA-capable device is detected (cudaErrorNoDevice)");
    fake_cuda().device_error = cudaSuccess;
}

}  // namespace keepstep::tests
