// The C interface: the C++ one, with structs in place of classes.
#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "exclusive_use.h"
#include "error.h"
#include "keepstep/bundle.h"
#include "keepstep/keepstep.h"

using keepstep::Status;
using keepstep::StatusCode;

struct keepstep_error {
    Status status;
};

struct keepstep_bundle {
    keepstep::Bundle bundle;
};

struct keepstep_player {
    explicit keepstep_player(keepstep::Player opened) : player(std::move(opened)) {
        inputs.reserve(player.inputs().size() + player.feeds().size());
        outputs.reserve(player.outputs().size());
    }

    keepstep::Player player;
    keepstep::Progress progress;
    std::atomic_flag playing = ATOMIC_FLAG_INIT;
    // Of the run that is played, with room for every tensor once: a run allocates nothing.
    std::vector<keepstep::ConstTensor> inputs;
    std::vector<keepstep::MutableTensor> outputs;
};

namespace {

static_assert(static_cast<int>(StatusCode::result_error) == KEEPSTEP_RESULT_ERROR);
static_assert(static_cast<int>(keepstep::DType::boolean) == KEEPSTEP_BOOL);
static_assert(static_cast<int>(keepstep::Device::cuda) == KEEPSTEP_CUDA);
static_assert(keepstep::Shape::max_axes == KEEPSTEP_MAX_AXES);

/// What is told where there is no memory left to tell it.
keepstep_error out_of_memory{{StatusCode::backend_error, 0, "out of memory"}};

keepstep_error* error_of(const Status& status) noexcept {
    if (status.ok()) return nullptr;
    try {
        return new keepstep_error{status};
    } catch (...) {
        return &out_of_memory;
    }
}

void throw_unless_ok(const Status& status) {
    if (status.ok()) return;
    throw keepstep::internal::Error{status.code(), status.rule(), status.message()};
}

constexpr const char* no_player = "player: expected one that is open, found NULL";

keepstep_error* input_error(const char* message) noexcept {
    return error_of(keepstep::internal::guarded_status(
        [&] { keepstep::internal::throw_input_error(message); }));
}

const std::vector<keepstep::TensorType>& types(const keepstep::Player& player,
                                               keepstep_role role) noexcept {
    switch (role) {
        case KEEPSTEP_INPUT: return player.inputs();
        case KEEPSTEP_OUTPUT: return player.outputs();
        case KEEPSTEP_FEED: return player.feeds();
    }
    static const std::vector<keepstep::TensorType> none;
    return none;
}

template <class Tensor>
Tensor tensor_of(const keepstep_tensor& given) noexcept {
    // More axes than a plan can have are counted, and none beyond the last is read.
    return {given.name == nullptr ? "" : given.name, static_cast<keepstep::DType>(given.dtype),
            keepstep::Shape(given.shape, given.axes), given.data, given.bytes,
            static_cast<keepstep::Device>(given.device)};
}

/// Calls `play` with the tensors of a run, in memory that the player has for them.
template <class Play>
keepstep_error* played(keepstep_player* player, const keepstep_tensor* inputs, size_t input_count,
                       const keepstep_tensor* outputs, size_t output_count, Play&& play) noexcept {
    return error_of(keepstep::internal::guarded_status([&] {
        if (player == nullptr) keepstep::internal::throw_input_error(no_player);
        if ((inputs == nullptr && input_count != 0) || (outputs == nullptr && output_count != 0)) {
            keepstep::internal::throw_input_error("expected tensors, found NULL");
        }
        const keepstep::internal::ExclusiveUse alone(player->playing);
        if (input_count > player->inputs.capacity() || output_count > player->outputs.capacity()) {
            keepstep::internal::throw_input_error("more tensors than the plan has");
        }
        player->inputs.clear();
        for (size_t i = 0; i < input_count; ++i) {
            player->inputs.push_back(tensor_of<keepstep::ConstTensor>(inputs[i]));
        }
        player->outputs.clear();
        for (size_t i = 0; i < output_count; ++i) {
            player->outputs.push_back(tensor_of<keepstep::MutableTensor>(outputs[i]));
        }
        play();
    }));
}

}  // namespace

keepstep_code keepstep_error_code(const keepstep_error* error) {
    return static_cast<keepstep_code>(error->status.code());
}

int keepstep_error_rule(const keepstep_error* error) { return error->status.rule(); }

const char* keepstep_error_message(const keepstep_error* error) {
    return error->status.message().c_str();
}

void keepstep_error_free(keepstep_error* error) {
    if (error != &out_of_memory) delete error;
}

keepstep_error* keepstep_bundle_open(const char* folder, const keepstep_bundle_options* options,
                                     keepstep_bundle** bundle) {
    if (bundle == nullptr) return input_error("bundle: expected a place for it, found NULL");
    *bundle = nullptr;
    if (folder == nullptr) return input_error("folder: expected a path, found NULL");
    keepstep::BundleOptions how;
    how.verify_hashes = options == nullptr || options->skip_hashes == 0;
    auto opened = keepstep::Bundle::open(folder, how);
    if (!opened.ok()) return error_of(opened.status());
    *bundle = new (std::nothrow) keepstep_bundle{*std::move(opened)};
    return *bundle == nullptr ? &out_of_memory : nullptr;
}

size_t keepstep_bundle_plan_count(const keepstep_bundle* bundle) {
    return bundle == nullptr ? 0 : bundle->bundle.plans().size();
}

const char* keepstep_bundle_plan(const keepstep_bundle* bundle, size_t index) {
    if (bundle == nullptr) return nullptr;
    const auto& plans = bundle->bundle.plans();
    return index < plans.size() ? plans[index].c_str() : nullptr;
}

void keepstep_bundle_free(keepstep_bundle* bundle) { delete bundle; }

const char* keepstep_backend(size_t index) {
    const auto& names = keepstep::backends();
    return index < names.size() ? names[index].c_str() : nullptr;
}

keepstep_error* keepstep_player_open(const keepstep_bundle* bundle, const char* plan,
                                     const char* backend, const keepstep_player_options* options,
                                     keepstep_player** player) {
    if (player == nullptr) return input_error("player: expected a place for it, found NULL");
    *player = nullptr;
    if (bundle == nullptr || plan == nullptr || backend == nullptr) {
        return input_error("expected a bundle, the name of a plan and of a backend, found NULL");
    }
    auto opened = keepstep::internal::guarded([&] {
        keepstep::PlayerOptions how;
        if (options != nullptr) how = {options->threads, options->cuda_stream};
        auto made = bundle->bundle.player(plan, backend, how);
        throw_unless_ok(made.status());
        return std::make_unique<keepstep_player>(*std::move(made));
    });
    if (!opened.ok()) return error_of(opened.status());
    *player = (*opened).release();
    return nullptr;
}

size_t keepstep_player_count(const keepstep_player* player, keepstep_role role) {
    return player == nullptr ? 0 : types(player->player, role).size();
}

int keepstep_player_has_default(const keepstep_player* player, size_t index) {
    if (player == nullptr || index >= player->player.inputs().size()) return 0;
    return player->player.has_default(player->player.inputs()[index].name) ? 1 : 0;
}

size_t keepstep_player_call_count(const keepstep_player* player) {
    return player == nullptr ? 0 : player->player.calls().size();
}

keepstep_error* keepstep_player_call(const keepstep_player* player, size_t index,
                                     keepstep_call* call) {
    if (player == nullptr) return input_error(no_player);
    if (call == nullptr) return input_error("call: expected a place for it, found NULL");
    const auto& calls = player->player.calls();
    if (index >= calls.size()) return input_error("call: an index beyond the last");
    *call = {calls[index].stage.c_str(), calls[index].step, calls[index].label.c_str()};
    return nullptr;
}

keepstep_error* keepstep_player_tensor(keepstep_player* player, keepstep_role role, size_t index,
                                       keepstep_tensor* tensor) {
    if (player == nullptr) return input_error(no_player);
    if (tensor == nullptr) return input_error("tensor: expected a place for it, found NULL");
    const auto& known = types(player->player, role);
    if (index >= known.size()) return input_error("tensor: an index beyond the last");
    const keepstep::TensorType& type = known[index];
    auto memory = player->player.memory(type.name);
    if (!memory.ok()) return error_of(memory.status());
    *tensor = {type.name.c_str(), static_cast<int32_t>(type.dtype),
               static_cast<uint32_t>(type.shape.size()), {}, memory->data, memory->bytes,
               static_cast<int32_t>(memory->device)};
    std::copy(type.shape.begin(), type.shape.end(), tensor->shape);
    return nullptr;
}

void keepstep_player_watch(keepstep_player* player, keepstep_progress progress, void* user) {
    // A pointer to a function and one to data fit into std::function: nothing is allocated.
    if (player == nullptr) return;
    player->progress = nullptr;
    if (progress == nullptr) return;
    player->progress = [progress, user](size_t done, size_t all) {
        return progress(done, all, user) != 0;
    };
}

keepstep_error* keepstep_player_run(keepstep_player* player, const keepstep_tensor* inputs,
                                    size_t input_count, const keepstep_tensor* outputs,
                                    size_t output_count) {
    return played(player, inputs, input_count, outputs, output_count, [&] {
        const keepstep::Progress progress = player->progress;  // it may be changed while it is told
        throw_unless_ok(player->player.run(player->inputs, player->outputs, progress));
    });
}

keepstep_error* keepstep_player_profile(keepstep_player* player, const keepstep_tensor* inputs,
                                        size_t input_count, const keepstep_tensor* outputs,
                                        size_t output_count, double* seconds,
                                        double* call_seconds) {
    return played(player, inputs, input_count, outputs, output_count, [&] {
        if (seconds == nullptr || call_seconds == nullptr) {
            keepstep::internal::throw_input_error("expected places for the seconds, found NULL");
        }
        const auto profile = player->player.profile(player->inputs, player->outputs);
        throw_unless_ok(profile.status());
        *seconds = profile->seconds;
        std::fill_n(call_seconds, player->player.calls().size(), 0.0);
        for (const keepstep::CallTime& time : profile->calls) {
            call_seconds[time.call] = time.seconds;
        }
    });
}

const char* keepstep_player_note(const keepstep_player* player) {
    return player == nullptr ? "" : player->player.note().c_str();
}

void keepstep_player_free(keepstep_player* player) { delete player; }
