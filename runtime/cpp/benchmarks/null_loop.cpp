// What the loop itself costs: plays a plan of a bundle with the backend that runs nothing.
//
//     keepstep_null_loop BUNDLE [PLAN]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "keepstep/bundle.h"

int main(int count, char** arguments) {
    using clock = std::chrono::steady_clock;
    constexpr int runs = 2000;
    if (count < 2) {
        std::fprintf(stderr, "usage: keepstep_null_loop BUNDLE [PLAN]\n");
        return 2;
    }
    const auto bundle = keepstep::Bundle::open(arguments[1]);
    if (!bundle.ok() || bundle->plans().empty()) {
        std::fprintf(stderr, "%s\n", bundle.status().message().c_str());
        return 1;
    }
    auto player = bundle->player(count > 2 ? arguments[2] : bundle->plans().front(), "null");
    if (!player.ok()) {
        std::fprintf(stderr, "%s\n", player.status().message().c_str());
        return 1;
    }
    std::vector<keepstep::ConstTensor> inputs;
    for (const keepstep::TensorType& type : player->inputs()) {
        auto memory = player->memory(type.name);
        std::memset(memory->data, 0, memory->bytes);
        inputs.push_back(*memory);
    }
    std::vector<double> seconds;
    for (int run = 0; run < runs; ++run) {
        const auto begin = clock::now();
        const keepstep::Status status = player->run(inputs);
        seconds.push_back(std::chrono::duration<double>(clock::now() - begin).count());
        if (!status.ok()) {
            std::fprintf(stderr, "%s\n", status.message().c_str());
            return 1;
        }
    }
    std::sort(seconds.begin(), seconds.end());
    const double microseconds = 1e6 * seconds[runs / 2];
    std::printf("%zu calls, median of %d runs: %.2f us a run, %.3f us a call\n", player->calls().size(),
                runs, microseconds,
                microseconds / static_cast<double>(player->calls().size()));
    return 0;
}
