// The toy bundle with real engines, tests/bundles/toy, on the CPU. Its golden values were computed
// by numpy, call by call.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "backends/onnxruntime_api.h"
#include "keepstep/bundle.h"
#include "tensors.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

const std::filesystem::path toy = KEEPSTEP_BUNDLES "/toy";

/// Golden inputs and outputs of the toy bundle.
struct Golden {
    ConstTensor input(const char* name, DType dtype) const {
        const internal::Type type = file.type(name).value();
        return {name, dtype, Shape(type.shape.data(), type.shape.size()), file.data(name),
                static_cast<std::size_t>(internal::bytes_of(type))};
    }
    std::vector<ConstTensor> inputs() const {
        return {input("token_ids", DType::int64), input("noise", DType::float32)};
    }
    std::vector<float> latents() const {
        std::vector<float> values(4);
        std::memcpy(values.data(), file.data("latents"), 16);
        return values;
    }

    internal::TensorFile file{internal::File(toy / "golden/toy.safetensors"), "golden"};
};

/// float32 has 24 bits, and a value goes through a dozen operations.
bool close(const std::vector<float>& found, const std::vector<float>& expected) {
    return std::equal(found.begin(), found.end(), expected.begin(), [](float a, float b) {
        return std::abs(a - b) <= 1e-5F * std::max(1.0F, std::abs(b));
    });
}

/// The toy bundle in a folder where a test may damage it.
struct Copy {
    Copy() { std::filesystem::copy(toy, folder(), std::filesystem::copy_options::recursive); }

    std::filesystem::path folder() const { return temporary.path() / "toy"; }
    /// What loading is refused with, the files as they are.
    std::string refusal(StatusCode code = StatusCode::bundle_error) const {
        seal(folder());
        const auto bundle = Bundle::open(folder().string());
        const auto player = bundle->player("toy", "onnxruntime");
        CHECK(player.status().code() == code);
        CHECK(player.status().rule() == (code == StatusCode::bundle_error ? 20 : 0));
        CHECK(printable(player.status().message()));
        return player.status().message();
    }

    TemporaryFolder temporary;
};

}  // namespace

TEST_CASE("a plan is played to its golden values, again and again") {
    const Golden golden;
    auto player = Bundle::open(toy.string())->player("toy");
    REQUIRE_MESSAGE(player.ok(), player.status().message());
    std::vector<float> first(4);
    for (int run = 0; run < 3; ++run) {
        std::vector<float> latents(4);
        std::vector<std::uint8_t> image(4);
        const Status status =
            player->run(golden.inputs(),
                        {tensor("latents", latents, {1, 4}), tensor("image", image, {1, 4})});
        REQUIRE_MESSAGE(status.ok(), status.message());
        CHECK(close(latents, golden.latents()));
        CHECK(std::memcmp(image.data(), golden.file.data("image"), 4) == 0);
        if (run == 0) first = latents;
        CHECK(latents == first);  // to the bit
    }
}

TEST_CASE("given embeddings leave the text encoder out") {
    const Golden golden;
    auto player = Bundle::open(toy.string())->player("toy");
    std::vector<float> embeds;
    for (std::size_t i = 0; i < 4; ++i) {
        std::int64_t id = 0;
        std::memcpy(&id, golden.file.data("token_ids") + 8 * i, 8);
        embeds.push_back(std::tanh(static_cast<float>(id)));
    }
    std::vector<float> latents(4);
    const Status status = player->run({golden.input("noise", DType::float32),
                                       tensor("prompt_embeds", std::as_const(embeds), {1, 4})},
                                      {tensor("latents", latents, {1, 4})});
    REQUIRE_MESSAGE(status.ok(), status.message());
    CHECK(close(latents, golden.latents()));
}

TEST_CASE("inputs written into the player's memory, and outputs read there, are not copied") {
    const Golden golden;
    auto player = Bundle::open(toy.string())->player("toy");
    std::vector<ConstTensor> inputs;
    for (const ConstTensor& given : golden.inputs()) {
        const auto own = player->memory(given.name);
        std::memcpy(own->data, given.data, given.bytes);
        inputs.push_back(*own);
    }
    REQUIRE(player->run(inputs).ok());
    const auto own = player->memory("latents");
    const auto* values = static_cast<const float*>(own->data);
    CHECK(close({values, values + 4}, golden.latents()));
}

TEST_CASE("a profile measures what was launched") {
    const Golden golden;
    auto player = Bundle::open(toy.string())->player("toy", "onnxruntime", {1, nullptr});
    std::vector<float> latents(4);
    const auto profile =
        player->profile(golden.inputs(), {tensor("latents", latents, {1, 4})});
    REQUIRE(profile.ok());
    CHECK(close(latents, golden.latents()));
    CHECK(profile->calls.size() == player->calls().size());
    CHECK(std::all_of(profile->calls.begin(), profile->calls.end(),
                      [](const CallTime& time) { return time.seconds > 0; }));
}

TEST_CASE("players on threads of their own share engines, and outlive the bundle") {
    const Golden golden;
    std::vector<Player> players;
    {
        const auto bundle = Bundle::open(toy.string());
        for (int i = 0; i < 2; ++i) players.push_back(*bundle->player("toy"));
    }
    std::vector<std::vector<float>> latents(2, std::vector<float>(4));
    const auto play = [&](std::size_t i) {
        for (int run = 0; run < 50; ++run) {
            const Status status =
                players[i].run(golden.inputs(), {tensor("latents", latents[i], {1, 4})});
            if (!status.ok()) return;
        }
    };
    std::thread other(play, 1);
    play(0);
    other.join();
    CHECK(close(latents[0], golden.latents()));
    CHECK(latents[1] == latents[0]);
}

TEST_CASE_FIXTURE(Copy, "a result that means nothing names the first stage") {
    const Golden golden;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    write(folder() / "plans/toy.safetensors",
          safetensors({{"coef", {"F32", {3, 3}, float_bytes({1, 0, 0, nan, 0, 0, 1, 1, 1})}},
                       {"times", {"F32", {2, 4}, float_bytes(std::vector<float>(8, 1))}}}));
    seal(folder());
    auto player = Bundle::open(folder().string())->player("toy");
    REQUIRE_MESSAGE(player.ok(), player.status().message());
    const char* expected =
        "plan 'toy': 4 of 4 elements of the output 'latents' are NaN or infinite; the first stage "
        "to give such numbers is 'shallow' (calls[2], 'prediction'): give smaller inputs, or "
        "export with --dtype bfloat16 or float32";
    std::vector<float> latents(4);
    std::vector<std::uint8_t> image(4);
    const auto every_call = [](std::size_t, std::size_t) { return true; };
    for (const Status& status :
         {player->run(golden.inputs(), {tensor("latents", latents, {1, 4})}),
          player->run(golden.inputs(), {tensor("image", image, {1, 4})}),
          player->run(golden.inputs()), player->run(golden.inputs(), {}, every_call),
          player->profile(golden.inputs()).status()}) {
        CHECK(status.code() == StatusCode::result_error);
        CHECK(status.message() == expected);
    }
}

TEST_CASE_FIXTURE(Copy, "an exchanged bundle is played as it was, and what is gone is refused") {
    const Golden golden;
    const auto bundle = Bundle::open(folder().string());
    REQUIRE(bundle.ok());
    namespace fs = std::filesystem;
    fs::rename(folder(), temporary.path() / "old");
    fs::copy(temporary.path() / "old", folder(), fs::copy_options::recursive);
    write(folder() / "weights.safetensors",
          safetensors({{"unet.kernel", {"F32", {4, 4}, float_bytes(std::vector<float>(16, 2))}}}));
    seal(folder());
    std::vector<float> latents(4);
    auto player = bundle->player("toy");
    REQUIRE_MESSAGE(player.ok(), player.status().message());
    REQUIRE(player->run(golden.inputs(), {tensor("latents", latents, {1, 4})}).ok());
    CHECK(close(latents, golden.latents()));
    fs::remove_all(temporary.path() / "old");
    const Status gone = bundle->player("toy", "onnxruntime", {2, nullptr}).status();
    CHECK(gone.code() == StatusCode::bundle_error);
    CHECK(gone.rule() == 0);
    CHECK(contains(gone.message(), "'stages/text-00.onnx' was replaced since it was opened; open "
                                   "the bundle again"));
}

TEST_CASE("too little memory is told from a fault of the bundle") {
    CHECK(contains(internal::memory_fault("Failed to allocate memory for requested buffer of size "
                                          "17592186044416")
                       .value_or(""),
                   "there is too little memory: end other programs"));
    CHECK(internal::memory_fault("std::bad_alloc").has_value());
    CHECK_FALSE(internal::memory_fault("Protobuf parsing failed.").has_value());
}

TEST_CASE_FIXTURE(Copy, "an engine that is none is refused before the library sees it") {
    write(folder() / "stages/full-00.onnx", "no model");
    const std::string message = refusal();
    CHECK(contains(message, "stage 'full' (stages/full-00.onnx): "));
    CHECK(contains(message, "export the bundle again"));
}

TEST_CASE_FIXTURE(Copy, "a pipe that takes an engine's place behind the check is not waited for") {
    const auto bundle = Bundle::open(folder().string());
    std::filesystem::remove(folder() / "stages/full-00.onnx");
    REQUIRE(mkfifo((folder() / "stages/full-00.onnx").c_str(), 0600) == 0);
    const Status status = bundle->player("toy").status();
    CHECK(status.code() == StatusCode::bundle_error);
    CHECK_MESSAGE(contains(status.message(), "was replaced since it was opened"),
                  status.message());
}

TEST_CASE_FIXTURE(Copy, "right engines of all kinds are loaded, the mark of another format or not") {
    for (const auto& file : std::filesystem::directory_iterator(KEEPSTEP_STAGES "/valid")) {
        write(folder() / "stages/full-00.onnx", read(file.path()));
        seal(folder());
        const Status status = Bundle::open(folder().string())->player("toy").status();
        CHECK_MESSAGE(status.ok(), file.path().string(), status.message());
    }
}

TEST_CASE_FIXTURE(Copy, "a declared type that is not the true one is refused by the library") {
    // The sum is said to have more elements than it has.
    std::string model = read(folder() / "stages/full-00.onnx");
    const std::string type = "\x0A\x01h\x12\x0E\x0A\x0C\x08\x01\x12\x08\x0A\x02\x08\x01\x0A\x02\x08\x04";
    const std::size_t at = model.find(type);
    REQUIRE(at != model.npos);
    model[at + type.size() - 1] = 5;
    write(folder() / "stages/full-00.onnx", model);
    const std::string message = refusal(StatusCode::backend_error);
    CHECK(contains(message, "stage 'full' (stages/full-00.onnx) cannot be loaded"));
    CHECK(contains(message, "ONNX Runtime 1."));
    CHECK(contains(message, "export the bundle again"));
}

TEST_CASE_FIXTURE(Copy, "an engine that is another stage's is refused") {
    write(folder() / "stages/final-00.onnx", read(folder() / "stages/shallow-00.onnx"));
    CHECK(contains(refusal(), "the plan's inputs are 'coef', 'history', 'noise', the engine's "
                              "'coef', 'context', 'features', 'history', 'noise', 'time'"));
}

TEST_CASE_FIXTURE(Copy, "an engine of another shape is refused") {
    std::string model = read(folder() / "stages/text-00.onnx");
    // The last axis of an input, {field 1: 4}, becomes 5.
    const std::string axis = "\x0A\x02\x08\x04";
    model[model.find(axis) + 3] = 5;
    write(folder() / "stages/text-00.onnx", model);
    CHECK(contains(refusal(), "int64[1, 4]"));
}

TEST_CASE_FIXTURE(Copy, "a second plan that means a shared engine in another way is refused") {
    const std::string plan = read(folder() / "plans/toy.json");
    write(folder() / "plans/other.json",
          replaced(replaced(plan, R"("name": "toy")", R"("name": "other")"),
                   R"("text": {"macs": 16, "engines": {"onnxruntime": "stages/text-00.onnx"})",
                   R"("text": {"macs": 16, "engines": {"onnxruntime": "stages/decode-00.onnx"})"));
    seal(folder(), R"(["toy", "other"])");
    const auto bundle = Bundle::open(folder().string());
    const auto first = bundle->player("toy");
    CHECK(first.ok());
    const Status second = bundle->player("other").status();
    CHECK(second.rule() == 20);
    CHECK(contains(second.message(), "stage 'text' (stages/decode-00.onnx): the plan's inputs"));
}

TEST_CASE_FIXTURE(Copy, "a stage without an engine for the backend is refused") {
    write(folder() / "plans/toy.json",
          replaced(read(folder() / "plans/toy.json"),
                   R"("engines": {"onnxruntime": "stages/decode-00.onnx"})",
                   R"("engines": {"tensorrt": "stages/decode-00.onnx"})"));
    CHECK(contains(refusal(StatusCode::backend_error),
                   "stage 'decode' has no engine for onnxruntime, but for 'tensorrt'"));
}

}  // namespace keepstep::tests
