#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "backends/null.h"
#include "bundle_folder.h"
#include "error.h"
#include "keepstep/bundle.h"
#include "player_impl.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

/// A player of the toy plan, and inputs for it.
struct Toy {
    Toy() {
        write_bundle(temporary.path());
        opened = std::make_unique<Result<Player>>(
            Bundle::open(temporary.path().string())->player("toy", "null"));
    }

    Player& player() { return opened->value(); }
    /// What a run with these inputs is refused with.
    std::string refused(const std::vector<ConstTensor>& inputs) {
        const Status status = player().run(inputs);
        CHECK(status.code() == StatusCode::input_error);
        return status.message();
    }

    TemporaryFolder temporary;
    std::unique_ptr<Result<Player>> opened;
    std::vector<float> noise = std::vector<float>(4, 1);
    std::vector<float> embeds = std::vector<float>(4, 1);
    std::vector<std::int64_t> ids = std::vector<std::int64_t>(4, 1);
    ConstTensor noise_tensor = tensor("noise", std::as_const(noise), {1, 4});
    ConstTensor ids_tensor = tensor("token_ids", std::as_const(ids), {1, 4});
    ConstTensor embeds_tensor = tensor("prompt_embeds", std::as_const(embeds), {1, 4});
};

std::vector<std::string> names(const std::vector<TensorType>& types) {
    std::vector<std::string> found;
    for (const TensorType& type : types) found.push_back(type.name);
    return found;
}

}  // namespace

TEST_CASE_FIXTURE(Toy, "a player tells what it takes and gives, in the order of the plan") {
    CHECK(names(player().inputs()) == std::vector<std::string>{"token_ids", "noise"});
    CHECK(names(player().feeds()) == std::vector<std::string>{"prompt_embeds"});
    CHECK(names(player().outputs()) == std::vector<std::string>{"latents", "image"});
    CHECK(player().calls().size() == 5);
    CHECK(player().calls()[0].stage == "text");
    CHECK(player().calls()[0].step == -1);
    CHECK(player().calls()[1].step == 0);
    CHECK(player().calls()[1].label == "full");
    CHECK(player().inputs()[0].dtype == DType::int64);
    CHECK(player().inputs()[0].shape == Shape{1, 4});
    CHECK(player().inputs()[0].bytes == 32);
}

TEST_CASE_FIXTURE(Toy, "outputs are written to the caller's memory; those of null are zeros") {
    std::vector<float> latents(4, 7);
    std::vector<std::uint8_t> image(4, 7);
    const Status status = player().run(
        {noise_tensor, ids_tensor},
        {tensor("image", image, {1, 4}), tensor("latents", latents, {1, 4})});
    CHECK_MESSAGE(status.ok(), status.message());
    CHECK(latents == std::vector<float>(4, 0));
    CHECK(image == std::vector<std::uint8_t>(4, 0));
}

TEST_CASE_FIXTURE(Toy, "inputs may be written into the player's own memory") {
    auto own = player().memory("noise");
    REQUIRE(own.ok());
    CHECK(own->bytes == 16);
    std::fill_n(static_cast<float*>(own->data), 4, 3.0F);
    CHECK(player().run({*own, ids_tensor}).ok());
    CHECK(static_cast<float*>(own->data)[3] == 3);
    CHECK(player().memory("image").ok());
    CHECK(player().memory("features").status().code() == StatusCode::input_error);
}

TEST_CASE_FIXTURE(Toy, "null memory of inputs, feeds and outputs does not overlap") {
    for (const char* name : {"noise", "token_ids", "prompt_embeds"}) {
        auto own = player().memory(name);
        std::fill_n(static_cast<std::uint8_t*>(own->data), own->bytes, std::uint8_t{0x3F});
    }
    std::vector<float> latents(4, 7);
    CHECK(player().run({noise_tensor, ids_tensor}, {tensor("latents", latents, {1, 4})}).ok());
    CHECK(latents == std::vector<float>(4, 0));
}

TEST_CASE_FIXTURE(Toy, "a call whose written values are given is left out, with what it needs") {
    internal::BundleFolder folder(temporary.path().string(), true);
    const internal::Plan& plan = folder.plan("toy");
    const internal::Program program(plan);
    std::vector<std::size_t> launches;
    const auto launched = [&](const std::vector<std::string>& given) {
        std::vector<bool> slots(program.slots.size());
        for (const std::string& name : given) {
            slots[static_cast<std::size_t>(program.find(name) - program.slots.data())] = true;
        }
        internal::calls_to_launch(program, slots, launches);
        return launches;
    };
    CHECK(launched({"noise", "token_ids"}) == std::vector<std::size_t>{0, 1, 2, 3, 4});
    CHECK(launched({"noise", "prompt_embeds"}) == std::vector<std::size_t>{1, 2, 3, 4});
    CHECK(player().run({noise_tensor, embeds_tensor}).ok());
    CHECK(contains(refused({noise_tensor}),
                   "plan 'toy' also needs the input token_ids int64[1, 4]"));
    CHECK(contains(refused({embeds_tensor}), "also needs the input noise float32[1, 4]"));
}

TEST_CASE_FIXTURE(Toy, "null counts the launches of every stage") {
    internal::BundleFolder folder(temporary.path().string(), true);
    const internal::Plan& plan = folder.plan("toy");
    internal::NullSession session(plan);
    for (int run = 0; run < 3; ++run) {
        for (std::size_t call = 0; call < plan.calls.size(); ++call) session.launch(call);
    }
    for (std::size_t stage = 0; stage < plan.stages.size(); ++stage) {
        CHECK(session.launches(stage) == 3);
    }
}

TEST_CASE("only some feeds of one call are refused") {
    internal::Program program(internal::Plan{});
    program.slots = {{internal::Slot::Kind::feed, {"a", DType::uint8, {}, 1}, 0},
                     {internal::Slot::Kind::feed, {"b", DType::uint8, {}, 1}, 1}};
    program.calls = {{{}, {0, 1}}};
    std::vector<std::size_t> launches;
    const Status some = internal::guarded_status(
        [&] { internal::calls_to_launch(program, {true, false}, launches); });
    CHECK(contains(some.message(), "with 'a' give 'b', too"));
    internal::calls_to_launch(program, {true, true}, launches);
    CHECK(launches.empty());
    internal::calls_to_launch(program, {false, false}, launches);
    CHECK(launches.size() == 1);
}

TEST_CASE_FIXTURE(Toy, "what does not fit is refused") {
    ConstTensor bad = noise_tensor;
    bad.name = "nois";
    CHECK(contains(refused({bad, ids_tensor}), "no input 'nois' (did you mean 'noise'?)"));
    bad = noise_tensor;
    bad.dtype = DType::int32;
    CHECK(contains(refused({bad, ids_tensor}), "expected float32[1, 4], found dtype int32"));
    bad.dtype = static_cast<DType>(99);
    CHECK(contains(refused({bad, ids_tensor}), "found dtype unknown"));
    bad = noise_tensor;
    bad.shape = {4};
    CHECK(contains(refused({bad, ids_tensor}), "expected float32[1, 4], found float32[4]"));
    bad.shape = {1, 4, 1, 1, 1, 1, 1, 1, 1, 1};
    CHECK(contains(refused({bad, ids_tensor}), "and more axes"));
    bad = noise_tensor;
    bad.bytes = 12;
    CHECK(contains(refused({bad, ids_tensor}), "found 12 bytes"));
    bad = noise_tensor;
    bad.data = nullptr;
    CHECK(contains(refused({bad, ids_tensor}), "null pointer"));
    CHECK(contains(refused({noise_tensor, ids_tensor, noise_tensor}), "given twice"));
    CHECK(contains(refused({}), "also needs the input noise float32[1, 4], token_ids int64[1, 4]"));
    noise[2] = std::numeric_limits<float>::quiet_NaN();
    CHECK(contains(refused({noise_tensor, ids_tensor}), "1 of 4 elements are NaN or infinite"));
    noise[2] = 1;
    std::vector<float> latents(4);
    CHECK(contains(player().run({noise_tensor, ids_tensor}, {tensor("noise", latents, {1, 4})})
                       .message(),
                   "no output 'noise'"));
    CHECK(player().run({noise_tensor, ids_tensor}).ok());  // nothing remains of a failure
}

TEST_CASE_FIXTURE(Toy, "a player that was moved from is refused") {
    Player& emptied = player();
    Player taken = std::move(emptied);
    CHECK(contains(refused({noise_tensor, ids_tensor}), "moved to another one"));
    CHECK(emptied.memory("noise").status().code() == StatusCode::input_error);
    CHECK(emptied.profile({}).status().code() == StatusCode::input_error);
    CHECK(taken.run({noise_tensor, ids_tensor}).ok());
}

TEST_CASE_FIXTURE(Toy, "progress is told of every call that is launched, and may end the run") {
    std::vector<std::size_t> told;
    const auto watch = [&](std::size_t done, std::size_t all) {
        CHECK(all == 4);
        told.push_back(done);
        return done < 3;
    };
    const Status status = player().run({noise_tensor, embeds_tensor}, {}, watch);
    CHECK(status.code() == StatusCode::cancelled);
    CHECK(contains(status.message(), "after 3 calls"));
    CHECK(told == std::vector<std::size_t>{1, 2, 3});
    CHECK(player().run({noise_tensor, embeds_tensor}).ok());  // nothing remains of it
}

TEST_CASE_FIXTURE(Toy, "a profile has the time of every call that was launched, and the outputs") {
    std::vector<float> latents(4, 7);
    const auto profile = player().profile({noise_tensor, embeds_tensor},
                                          {tensor("latents", latents, {1, 4})});
    REQUIRE(profile.ok());
    CHECK(latents == std::vector<float>(4, 0));
    REQUIRE(profile->calls.size() == 4);  // given embeddings leave the first out
    double sum = 0;
    for (std::size_t i = 0; i < 4; ++i) {
        CHECK(profile->calls[i].call == i + 1);
        CHECK(profile->calls[i].seconds >= 0);
        sum += profile->calls[i].seconds;
    }
    CHECK(profile->seconds >= 0.999 * sum);  // the same clock readings; sums are rounded
}

TEST_CASE_FIXTURE(Toy, "a profile tells its progress, which may end it") {
    std::vector<float> latents(4, 7);
    std::size_t told = 0;
    const auto profile =
        player().profile({noise_tensor, embeds_tensor}, {tensor("latents", latents, {1, 4})},
                         [&](std::size_t done, std::size_t all) {
                             CHECK(all == 4);
                             CHECK(done == ++told);
                             return true;
                         });
    REQUIRE(profile.ok());
    CHECK(told == 4);
    CHECK(latents == std::vector<float>(4, 0));
    REQUIRE(profile->calls.size() == 4);  // given embeddings leave the first out
    CHECK(profile->calls[3].call == 4);
    const auto ended = player().profile({noise_tensor, ids_tensor}, {},
                                        [](std::size_t done, std::size_t) { return done < 2; });
    CHECK(ended.status().code() == StatusCode::cancelled);
    CHECK(contains(ended.status().message(), "after 2 calls"));
}

TEST_CASE_FIXTURE(Toy, "a profile refuses inputs that the runs of it overwrite") {
    const auto own = player().memory("noise");
    const auto profile = player().profile({*own, ids_tensor});
    CHECK(profile.status().code() == StatusCode::input_error);
    CHECK(contains(profile.status().message(), "player's own memory"));
}

TEST_CASE_FIXTURE(Toy, "memory of a GPU is refused by a player that has none") {
    noise_tensor.device = Device::cuda;
    CHECK(contains(refused({noise_tensor, ids_tensor}), "said to lie on a GPU"));
    noise_tensor.device = Device::host;
    std::vector<float> latents(4, 7);
    MutableTensor result = tensor("latents", latents, {1, 4});
    result.device = Device::cuda;
    CHECK(player().run({noise_tensor, ids_tensor}, {result}).code() == StatusCode::input_error);
}

TEST_CASE_FIXTURE(Toy, "a backend that is not in the build is told from one that there is not") {
    const auto bundle = Bundle::open(temporary.path().string());
    const auto refusal = [&](const char* backend) {
        const auto opened = bundle->player("toy", backend);
        CHECK(opened.status().code() == StatusCode::backend_error);
        return opened.status().message();
    };
    CHECK(contains(refusal("nul"), "did you mean 'null'?"));
    CHECK(backends().front() == "null");
    // A build has TensorRT or TensorRT-RTX, never both.
    const auto in_build = [](const char* name) {
        return std::find(backends().begin(), backends().end(), name) != backends().end();
    };
    CHECK_FALSE((in_build("tensorrt") && in_build("tensorrt-rtx")));
    const char* absent = in_build("tensorrt") ? "tensorrt-rtx" : "tensorrt";
    CHECK(contains(refusal(absent), "is not in this build, which has: 'null'"));
}

TEST_CASE_FIXTURE(Toy, "a number of threads that no launch can use is refused") {
    PlayerOptions options;
    for (const int threads : {-1, 1025}) {
        options.threads = threads;
        const auto opened = Bundle::open(temporary.path().string())->player("toy", "null", options);
        CHECK(opened.status().code() == StatusCode::input_error);
    }
}

TEST_CASE_FIXTURE(Toy, "a player that is playing refuses a second run") {
    auto folder = std::make_shared<internal::BundleFolder>(temporary.path().string(), true);
    auto impl =
        std::make_unique<Player::Impl>(folder, folder->plan("toy"), "null", PlayerOptions{});
    impl->playing.test_and_set();
    Player busy(std::move(impl));
    CHECK(contains(busy.run({noise_tensor, ids_tensor}).message(), "playing already"));
}

TEST_CASE("more memory than there is is refused") {
    const Status status = internal::guarded_status(
        [] { internal::Pages::zeros(std::numeric_limits<std::size_t>::max() / 2); });
    CHECK(status.code() == StatusCode::backend_error);
    CHECK(contains(status.message(), "more than is free"));
}

}  // namespace keepstep::tests
