#include "play.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "failure.h"
#include "keepstep/bundle.h"
#include "keepstep/safetensors.h"
#include "png.h"
#include "progress.h"
#include "show.h"
#include "target.h"
#include "write_safetensors.h"

namespace keepstep::tool {
namespace {

constexpr const char* runs_nothing = "null";

Bundle open(const Request& request) {
    BundleOptions options;
    options.verify_hashes = !request.skip_hashes;
    return value_of(Bundle::open(request.bundle, options));
}

std::string plan_of(const Request& request, const Bundle& bundle) {
    if (request.plan) return *request.plan;
    return bundle.plans().empty() ? "" : bundle.plans().front();
}

std::string backend_of(const Request& request) {
    if (request.backend) return *request.backend;
    const auto found = std::find_if(backends().begin(), backends().end(),
                                    [](const std::string& name) { return name != runs_nothing; });
    return found == backends().end() ? runs_nothing : *found;
}

/// Memory of the program's own for what a run gives.
struct Outputs {
    explicit Outputs(const Player& player) {
        for (const TensorType& type : player.outputs()) {
            std::vector<std::uint8_t>& memory = memories.emplace_back(type.bytes);
            tensors.push_back({type.name, type.dtype, type.shape, memory.data(), type.bytes});
        }
    }

    std::vector<std::vector<std::uint8_t>> memories;
    std::vector<MutableTensor> tensors;
};

/// The picture among the outputs, uint8 (batch, height, width, 3).
const MutableTensor& picture(const std::string& plan, const Player& player,
                             const Outputs& outputs) {
    std::string found;
    for (std::size_t i = 0; i < outputs.tensors.size(); ++i) {
        const MutableTensor& tensor = outputs.tensors[i];
        if (tensor.name == "image" && tensor.dtype == DType::uint8 && tensor.shape.size() == 4 &&
            tensor.shape[3] == 3 && tensor.bytes <= max_png_pixels) {
            return tensor;
        }
        const TensorType& type = player.outputs()[i];
        found += (i == 0 ? "" : ", ") + type.name + " " + type_text(type);
    }
    throw Failure{"plan '" + plan + "' gives no picture, which --png needs: an output image of " +
                  "uint8[batch, height, width, 3]; its outputs: " + found};
}

/// How to get what is missing, where that is the ids of a text; nothing where it is not.
std::string way_to_ids(const Request& request, const std::string& plan, const Player& player,
                       const std::vector<ConstTensor>& given) {
    const auto is_given = [&](const TensorType& type) {
        return std::any_of(given.begin(), given.end(),
                           [&](const ConstTensor& tensor) { return tensor.name == type.name; });
    };
    const auto is_missing = [&](const TensorType& type) {
        return type.name.find("token_ids") != type.name.npos &&
               !player.has_default(type.name) && !is_given(type);
    };
    const auto& inputs = player.inputs();
    const auto& feeds = player.feeds();
    if (std::none_of(inputs.begin(), inputs.end(), is_missing) ||
        std::any_of(feeds.begin(), feeds.end(), is_given)) {
        return "";
    }
    return "; a file for --inputs is made by: keepstep run " + request.bundle + " --plan " + plan +
           " --prompt TEXT --save-inputs in.safetensors";
}

/// The first run: every call of it is told, and Ctrl-C ends it.
Profile first_run(const std::string& plan, Player& player, const std::vector<ConstTensor>& inputs,
                  const std::vector<MutableTensor>& outputs, const std::string& hint) {
    const Counter counter(plan + ": call");
    auto profile = player.profile(inputs, outputs, [&](std::size_t done, std::size_t all) {
        counter.tell(done, all);
        return !is_interrupted();
    });
    if (profile.status().code() == StatusCode::cancelled) check_interrupts();
    if (profile.status().code() == StatusCode::input_error) {
        throw Failure{profile.status().message() + hint};
    }
    return value_of(std::move(profile));
}

/// Runs that are played to be measured, as a program plays them.
std::vector<Profile> measured(const std::string& plan, Player& player,
                              const std::vector<ConstTensor>& inputs, int count) {
    const Counter counter(plan + ": run");
    std::vector<Profile> profiles;
    while (profiles.size() < static_cast<std::size_t>(count)) {
        counter.tell(profiles.size(), static_cast<std::size_t>(count));
        profiles.push_back(value_of(player.profile(inputs)));
        check_interrupts();
    }
    return profiles;
}

}  // namespace

std::string play(const Request& request) {
    if (request.outputs) check_target(*request.outputs, ".safetensors");
    if (request.png) check_target(*request.png, ".png");
    std::optional<Safetensors> file;
    if (request.inputs) file = value_of(Safetensors::open(*request.inputs));
    const std::vector<ConstTensor> inputs = file ? file->tensors() : std::vector<ConstTensor>();

    const Bundle bundle = open(request);
    const std::string plan = plan_of(request, bundle);
    const std::string backend = backend_of(request);
    PlayerOptions options;
    options.threads = request.threads;
    Player player = value_of(bundle.player(plan, backend, options));
    const Outputs outputs(player);
    const MutableTensor* image = request.png ? &picture(plan, player, outputs) : nullptr;

    catch_interrupts();
    const std::string hint = way_to_ids(request, plan, player, inputs);
    std::vector<Profile> runs = {first_run(plan, player, inputs, outputs.tensors, hint)};
    if (request.repeat > 0) runs = measured(plan, player, inputs, request.repeat);

    PartFiles parts;
    std::vector<std::string> written;
    const auto write = [&](const std::string& path, const std::string& content) {
        parts.write(path, content);
        written.push_back(path);
    };
    if (request.outputs) {
        const auto& tensors = outputs.tensors;
        write(*request.outputs, safetensors_of({tensors.begin(), tensors.end()}));
    }
    if (image != nullptr) {
        const auto axis = [&](std::size_t i) { return static_cast<std::size_t>(image->shape[i]); };
        const auto* pixels = static_cast<const std::uint8_t*>(image->data);
        write(*request.png, png_of(pixels, axis(0), axis(1), axis(2)));
    }
    check_interrupts();
    parts.publish();

    const Played played{plan, backend, static_cast<int>(runs.size()),
                        times_of(player.calls(), runs), written, player.note()};
    std::string text = request.json ? played_json(played) : played_text(played);
    if (!request.backend && backend == runs_nothing && !request.json) {
        text += "this build runs no engines: played with null, whose outputs are zeros\n";
    }
    return text;
}

std::string list(const Request& request) {
    if (request.inputs || request.outputs || request.png || request.backend ||
        request.threads != 0 || request.repeat != 0) {
        throw Failure{"--list plays nothing: it goes with --plan, --json and --no-hashes alone"};
    }
    const Bundle bundle = open(request);
    const std::string plan = plan_of(request, bundle);
    const Player player = value_of(bundle.player(plan, runs_nothing));
    const Listing listing{plan, player, bundle.plans(), backends()};
    return request.json ? listing_json(listing) : listing_text(listing);
}

}  // namespace keepstep::tool
