// What an embedder asks, one function a question: explained BUNDLE BACKEND
//
// It plays the first plan of a bundle with noise of its own, and zeros for all that is no noise.
#include <keepstep/bundle.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

/// Memory of this program for tensors, and what the library calls such memory: a name, a type and
/// an address. Nothing of it is copied before a run, so it has to live as long as the run.
struct Tensors {
    std::vector<std::vector<char>> memory;
    std::vector<keepstep::MutableTensor> tensors;

    void add(const keepstep::TensorType& type) {
        std::vector<char>& bytes = memory.emplace_back(type.bytes);
        tensors.push_back({type.name, type.dtype, type.shape, bytes.data(), type.bytes});
    }
    /// What is read and not written: a `MutableTensor` becomes a `ConstTensor` by itself.
    std::vector<keepstep::ConstTensor> inputs() const { return {tensors.begin(), tensors.end()}; }
};

/// Fills an input of float32 with standard normal noise: what the start noise of a plan has to be.
void fill_with_noise(const keepstep::MutableTensor& input) {
    if (input.name != "noise" || input.dtype != keepstep::DType::float32) return;
    std::mt19937 generator(0);
    std::normal_distribution<float> normal;
    auto* values = static_cast<float*>(input.data);
    std::generate_n(values, input.bytes / sizeof(float), [&] { return normal(generator); });
}

/// Inputs of the types that a plan asks for. They never change: a plan is static.
Tensors made_inputs(const keepstep::Player& player) {
    Tensors made;
    for (const auto& type : player.inputs()) made.add(type);
    for (const auto& input : made.tensors) fill_with_noise(input);
    return made;
}

/// A run: inputs are copied in and outputs out. It allocates nothing.
keepstep::Status play(keepstep::Player& player) {
    const Tensors inputs = made_inputs(player);
    Tensors outputs;
    for (const auto& type : player.outputs()) outputs.add(type);
    return player.run(inputs.inputs(), outputs.tensors);
}

/// The same without a copy: inputs are written where the player reads them, and outputs are read
/// where it writes them. Inputs have to be written again for every run, because later calls use
/// their memory; outputs lie there until memory of an input is written.
keepstep::Status play_in_place(keepstep::Player& player) {
    std::vector<keepstep::ConstTensor> inputs;
    for (const auto& type : player.inputs()) {
        const auto own = player.memory(type.name);
        if (!own.ok()) return own.status();
        if (own->device != keepstep::Device::host) return {};  // of a GPU: cudaMemcpy goes here
        std::memset(own->data, 0, own->bytes);
        fill_with_noise(*own);
        inputs.push_back(*own);
    }
    if (auto status = player.run(inputs); !status.ok()) return status;
    for (const auto& type : player.outputs()) {
        const auto own = player.memory(type.name);
        if (!own.ok()) return own.status();
        std::printf("%s: %zu bytes\n", type.name.c_str(), own->bytes);
    }
    return {};
}

/// Feeds: values that a run computes, but may be given instead, such as the embeddings of a prompt
/// that a program already has. Calls that compute nothing else are then left out.
keepstep::Status play_fed(keepstep::Player& player) {
    Tensors given = made_inputs(player);
    for (const auto& type : player.feeds()) given.add(type);  // all of them, or none
    return player.run(given.inputs());
}

/// Progress: told of every call that is done. A callback that gives false ends the run, whose
/// status is then `cancelled`; nothing remains of it, and the player may play again. With a
/// callback calls are waited for one by one, so a GPU is faster without.
keepstep::Status cancel_half_way(keepstep::Player& player) {
    const Tensors inputs = made_inputs(player);
    const auto status =
        player.run(inputs.inputs(), {}, [](std::size_t done, std::size_t all) {
            std::printf("call %zu of %zu\n", done, all);
            return 2 * done < all;
        });
    return status.code() == keepstep::StatusCode::cancelled ? keepstep::Status() : status;
}

/// A profile: the time of the whole run and of each call by itself.
keepstep::Status measure(keepstep::Player& player) {
    const Tensors inputs = made_inputs(player);
    const auto profile = player.profile(inputs.inputs());
    if (!profile.ok()) return profile.status();
    for (const auto& [index, seconds] : profile->calls) {
        const keepstep::Call& call = player.calls()[index];
        std::printf("%-20s %-8s %8.3f ms\n", call.stage.c_str(), call.label.c_str(), 1e3 * seconds);
    }
    std::printf("%-29s %8.3f ms\n", "the whole run", 1e3 * profile->seconds);
    return {};
}

/// Threads: a player is for one at a time, a bundle for any number. Two players of a bundle share
/// its weights and play side by side. A second thread in one player is refused, not made to wait.
keepstep::Status play_side_by_side(const keepstep::Bundle& bundle, const char* backend) {
    std::vector<keepstep::Status> results(2);
    std::vector<std::thread> threads;
    for (keepstep::Status& result : results) {
        threads.emplace_back([&] {
            keepstep::PlayerOptions options;
            options.threads = 1;  // each plays on one core
            auto player = bundle.player(bundle.plans().front(), backend, options);
            result = player.ok() ? play(*player) : player.status();
        });
    }
    for (std::thread& thread : threads) thread.join();
    return results[0].ok() ? results[1] : results[0];
}

/// Errors: statuses, never exceptions. The code says who can mend it, the message what was found,
/// what was expected, where, and the way out. `Result::value` is for those that are `ok`.
void show_a_refusal(keepstep::Player& player) {
    keepstep::ConstTensor tensor;
    tensor.name = "nois";
    const keepstep::Status status = player.run({tensor});
    if (status.code() == keepstep::StatusCode::input_error) {
        std::printf("refused: %s\n", status.message().c_str());
    }
}

keepstep::Status explain(const char* folder, const char* backend) {
    // Opening compares the hash of every file. For files that are known to be whole, sizes will do.
    keepstep::BundleOptions options;
    options.verify_hashes = true;
    const auto bundle = keepstep::Bundle::open(folder, options);
    if (!bundle.ok()) return bundle.status();
    if (bundle->plans().empty()) return {};

    // All memory is allocated and every engine loaded here, once. The player keeps what it needs
    // of its bundle, which may be closed before it.
    auto player = bundle->player(bundle->plans().front(), backend);
    if (!player.ok()) return player.status();

    for (const auto question : {play, play_in_place, play_fed, cancel_half_way, measure}) {
        if (auto status = question(*player); !status.ok()) return status;
    }
    show_a_refusal(*player);
    return play_side_by_side(*bundle, backend);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) {
        std::fprintf(stderr, "usage: explained BUNDLE BACKEND; this build has:");
        for (const std::string& name : keepstep::backends()) {
            std::fprintf(stderr, " %s", name.c_str());
        }
        std::fprintf(stderr, "\n");
        return 2;
    }
    const keepstep::Status status = explain(arguments[1], arguments[2]);
    if (status.ok()) return 0;
    std::fprintf(stderr, "%s\n", status.message().c_str());
    return 1;
}
