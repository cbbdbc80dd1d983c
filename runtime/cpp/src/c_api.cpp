// The C interface: the C++ one, with structs in place of classes.
#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "alone.h"
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
    std::atomic_flag playing = ATOMIC_FLAG_INIT;
    // Of the run that is played, with room for every tensor once: a run allocates nothing.
    std::vector<keepstep::ConstTensor> inputs;
    std::vector<keepstep::MutableTensor> outputs;
};

namespace {

static_assert(static_cast<int>(StatusCode::internal_error) == KEEPSTEP_INTERNAL_ERROR);
static_assert(static_cast<int>(keepstep::DType::boolean) == KEEPSTEP_BOOL);
static_assert(keepstep::Shape::max_axes == KEEPSTEP_MAX_AXES);

/// What is told where there is no memory left to tell it.
keepstep_error out_of_memory{{StatusCode::backend_error, 0, "out of memory"}};

keepstep_error* error_of(Status status) noexcept {
    if (status.ok()) return nullptr;
    auto* error = new (std::nothrow) keepstep_error{std::move(status)};
    return error == nullptr ? &out_of_memory : error;
}

void throw_unless_ok(const Status& status) {
    if (status.ok()) return;
    throw keepstep::internal::Error{status.code(), status.rule(), status.message()};
}

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
            keepstep::Shape(given.shape, given.axes), given.data, given.bytes};
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
    return bundle->bundle.plans().size();
}

const char* keepstep_bundle_plan(const keepstep_bundle* bundle, size_t index) {
    const auto& plans = bundle->bundle.plans();
    return index < plans.size() ? plans[index].c_str() : nullptr;
}

void keepstep_bundle_free(keepstep_bundle* bundle) { delete bundle; }

keepstep_error* keepstep_player_open(const keepstep_bundle* bundle, const char* plan,
                                     const char* backend, keepstep_player** player) {
    if (player == nullptr) return input_error("player: expected a place for it, found NULL");
    *player = nullptr;
    if (bundle == nullptr || plan == nullptr || backend == nullptr) {
        return input_error("expected a bundle, the name of a plan and of a backend, found NULL");
    }
    auto opened = keepstep::internal::guarded([&] {
        auto made = bundle->bundle.player(plan, backend);
        throw_unless_ok(made.status());
        return std::make_unique<keepstep_player>(*std::move(made));
    });
    if (!opened.ok()) return error_of(opened.status());
    *player = (*opened).release();
    return nullptr;
}

size_t keepstep_player_count(const keepstep_player* player, keepstep_role role) {
    return types(player->player, role).size();
}

keepstep_error* keepstep_player_tensor(keepstep_player* player, keepstep_role role, size_t index,
                                       keepstep_tensor* tensor) {
    const auto& known = types(player->player, role);
    if (index >= known.size()) return input_error("tensor: an index beyond the last");
    const keepstep::TensorType& type = known[index];
    auto memory = player->player.memory(type.name);
    if (!memory.ok()) return error_of(memory.status());
    *tensor = {type.name.c_str(), static_cast<int32_t>(type.dtype),
               static_cast<uint32_t>(type.shape.size()), {}, memory->data, memory->bytes};
    std::copy(type.shape.begin(), type.shape.end(), tensor->shape);
    return nullptr;
}

keepstep_error* keepstep_player_run(keepstep_player* player, const keepstep_tensor* inputs,
                                    size_t input_count, const keepstep_tensor* outputs,
                                    size_t output_count) {
    return error_of(keepstep::internal::guarded_status([&] {
        if ((inputs == nullptr && input_count != 0) || (outputs == nullptr && output_count != 0)) {
            keepstep::internal::throw_input_error("expected tensors, found NULL");
        }
        const keepstep::internal::Alone alone(player->playing);
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
        throw_unless_ok(player->player.run(player->inputs, player->outputs));
    }));
}

void keepstep_player_free(keepstep_player* player) { delete player; }
