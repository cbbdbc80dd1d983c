// The real libraries, as far as they go without a GPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "backends/backend.h"
#include "backends/tensorrt_engine.h"
#include "error.h"
#include "keepstep/bundle.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

/// The backend of this build.
std::string gpu_backend() {
    const auto& names = backends();
    const auto found = std::find_if(names.begin(), names.end(), [](const std::string& name) {
        return name.rfind("tensorrt", 0) == 0;
    });
    REQUIRE(found != names.end());
    return *found;
}

bool has_gpu() {
    return internal::guarded_status([] { internal::current_gpu(); }).ok();
}

/// What loading an engine of these bytes is refused with.
std::string refused(const std::string& bytes) {
    const Status status = internal::guarded_status([&] {
        internal::Engine(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(),
                         {0, "a GPU", 9, 0}, "/nowhere/kernels", "stage 'full'");
    });
    CHECK(status.code() == StatusCode::backend_error);
    CHECK(printable(status.message()));
    return status.message();
}

}  // namespace

TEST_CASE("the library loads and tells its version, which this build can call") {
    const std::string title = gpu_backend() == "tensorrt" ? "TensorRT " : "TensorRT-RTX ";
    CHECK(internal::library_title().rfind(title, 0) == 0);
    CHECK(std::isdigit(internal::library_title()[title.size()]) != 0);
    CHECK(internal::guarded_status([] { internal::check_library(); }).ok());
}

TEST_CASE("bytes that are no engine are refused in the library's own words") {
    for (const std::string& bytes :
         {std::string(), std::string("x"), std::string(1000, 'x'), std::string(100000, '\0')}) {
        CHECK(contains(refused(bytes), "stage 'full': " + internal::library_title() +
                                           " does not run on a GPU (compute capability 9.0): "));
        CHECK_FALSE(contains(refused(bytes), "no reason was given"));
    }
#ifdef TRT_MAJOR_RTX
    CHECK(contains(refused("x"), "MALFORMED_ENGINE"));
    CHECK(contains(refused("x"), "export the bundle again"));
#endif
}

TEST_CASE("a plan whose rows begin off the alignment is refused, with a way out") {
    const TemporaryFolder temporary;
    write_bundle(temporary.path());
    std::string plan = plan_text("valid/toy.json");
    for (int stage = 0; stage < 5; ++stage) plan = replaced(plan, "onnxruntime", gpu_backend());
    write(temporary.path() / "plans/toy.json", plan);
    seal(temporary.path());
    const auto opened = Bundle::open(temporary.path().string())->player("toy", gpu_backend());
    CHECK(opened.status().code() == StatusCode::backend_error);
    CHECK(contains(opened.status().message(), "this backend needs multiples of 256"));
}

// The next two take a bundle with engines for this library, named by KEEPSTEP_GPU_BUNDLE: what
// `keepstep export models/emoji --backend` writes.
TEST_CASE("without a GPU a bundle is refused, and its engines, whole or cut, are, too") {
    const char* given = std::getenv("KEEPSTEP_GPU_BUNDLE");
    if (given == nullptr || has_gpu()) return;
    const auto bundle = Bundle::open(given);
    REQUIRE_MESSAGE(bundle.ok(), bundle.status().message());
    const auto opened = bundle->player(bundle->plans().front(), gpu_backend());
    CHECK(opened.status().code() == StatusCode::backend_error);
    const std::string& message = opened.status().message();
    CHECK(contains(message, "CUDA could not find a GPU: "));
    CHECK(contains(message, "(cudaError"));
    CHECK(contains(message, "this build also has: 'null'"));

    for (const auto& entry :
         std::filesystem::directory_iterator(std::filesystem::path(given) / "stages")) {
        if (entry.path().extension() != ".engine") continue;
        const std::string engine = read(entry.path());
        for (const std::size_t size :
             {std::size_t{10}, std::size_t{64}, std::size_t{1000}, engine.size() / 2,
              engine.size() - 1, engine.size()}) {
            refused(engine.substr(0, size));
        }
    }
}

TEST_CASE("on a GPU golden inputs give golden latents, call by call and as one graph") {
    const char* given = std::getenv("KEEPSTEP_GPU_BUNDLE");
    if (given == nullptr || !has_gpu()) return;
    const auto bundle = Bundle::open(given);
    REQUIRE_MESSAGE(bundle.ok(), bundle.status().message());
    const std::string& plan = bundle->plans().front();
    const std::string golden = "golden/" + plan + ".safetensors";
    auto player = bundle->player(plan, gpu_backend());
    REQUIRE_MESSAGE(player.ok(), player.status().message());

    std::vector<ConstTensor> inputs;
    for (const TensorType& type : player->inputs()) {
        const auto input = bundle->tensor(golden, "inputs." + type.name);
        REQUIRE_MESSAGE(input.ok(), input.status().message());
        inputs.push_back(*input);
        inputs.back().name = type.name;
    }
    const auto expected = bundle->tensor(golden, "outputs.latents");
    REQUIRE(expected.ok());
    const auto* wanted = static_cast<const float*>(expected->data);
    std::vector<float> latents(expected->bytes / sizeof(float));
    const Progress each = [](std::size_t, std::size_t) { return true; };
    for (const Progress& progress : {each, Progress(), Progress(), Progress()}) {
        std::fill(latents.begin(), latents.end(), 0.0F);
        const Status status =
            player->run(inputs, {tensor("latents", latents, expected->shape)}, progress);
        REQUIRE_MESSAGE(status.ok(), status.message());
        double difference = 0;
        double norm = 0;
        for (std::size_t i = 0; i < latents.size(); ++i) {
            difference += std::pow(double{latents[i]} - double{wanted[i]}, 2);
            norm += std::pow(double{wanted[i]}, 2);
        }
        // What `keepstep verify` allows a run that selects tokens: which ones can hang on a bit.
        CHECK(std::sqrt(difference / norm) <= 5e-2);
    }
}

}  // namespace keepstep::tests
