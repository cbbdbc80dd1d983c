#include "keepstep/player.h"

#include <cstring>
#include <utility>

#include "alone.h"
#include "error.h"
#include "inputs.h"
#include "player_impl.h"
#include "wording.h"

namespace keepstep {

using internal::guarded;
using internal::guarded_status;
using internal::Slot;

namespace {

std::vector<std::string> names(const std::vector<TensorType>& types) {
    std::vector<std::string> found;
    for (const TensorType& type : types) found.push_back(type.name);
    return found;
}

}  // namespace

Player::Impl::Impl(std::shared_ptr<internal::BundleFolder> folder, const internal::Plan& plan,
                   const std::string& backend)
    : bundle(std::move(folder)),
      plan_name(plan.name),
      program(plan),
      session(internal::open_session(*bundle, plan, backend)),
      given(program.slots.size()),
      taken(program.slots.size()) {
    launches.reserve(program.calls.size());
    for (const auto& [name, value] : plan.values) {  // in the plan's order
        const Slot* slot = program.find(name);
        if (slot == nullptr) continue;
        std::vector<TensorType>& types = slot->kind == Slot::Kind::input  ? inputs
                                         : slot->kind == Slot::Kind::feed ? feeds
                                                                          : outputs;
        types.push_back(slot->type);
    }
}

const Slot& Player::Impl::slot(const char* what, std::string_view name, bool is_output) const {
    const Slot* found = program.find(name);
    if (found == nullptr || (found->kind == Slot::Kind::output) != is_output) {
        const std::vector<std::string> known = names(is_output ? outputs : inputs);
        internal::throw_input_error(
            "plan " + internal::shown(plan_name) + " has no " + what + " " + internal::shown(name) +
            internal::did_you_mean(name, known) + "; it has: " + internal::listed(known) +
            (is_output ? "" : "; it may also be fed: " + internal::listed(names(feeds))));
    }
    return *found;
}

void Player::Impl::check(Span<ConstTensor> tensors, Span<MutableTensor> results) {
    given.assign(given.size(), false);
    taken.assign(taken.size(), false);
    const auto once = [&](std::vector<bool>& seen, const Slot& found) {
        const auto index = static_cast<std::size_t>(&found - program.slots.data());
        if (seen[index]) {
            internal::throw_input_error(internal::shown(found.type.name) +
                                        " is given twice in one run");
        }
        seen[index] = true;
    };
    for (const ConstTensor& tensor : tensors) {
        const Slot& found = slot("input", tensor.name, false);
        internal::check_tensor("input", tensor, found.type);
        internal::check_elements(tensor);
        once(given, found);
    }
    for (const MutableTensor& result : results) {
        const Slot& found = slot("output", result.name, true);
        internal::check_tensor("output", result, found.type);
        once(taken, found);
    }
    internal::calls_to_launch(program, given, launches);
}

void Player::Impl::play(Span<ConstTensor> tensors, Span<MutableTensor> results) {
    const internal::Alone alone(playing);
    check(tensors, results);
    for (const ConstTensor& tensor : tensors) {
        std::byte* memory = session->memory(program.find(tensor.name)->value);
        // The caller's memory may overlap: it may be the player's own.
        if (tensor.data != memory) std::memmove(memory, tensor.data, tensor.bytes);
    }
    for (const std::size_t call : launches) session->launch(call);
    for (const MutableTensor& result : results) {
        const std::byte* memory = session->memory(program.find(result.name)->value);
        if (result.data != memory) std::memmove(result.data, memory, result.bytes);
    }
}

Player::Player(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Player::Player(Player&&) noexcept = default;
Player& Player::operator=(Player&&) noexcept = default;
Player::~Player() = default;

const std::vector<TensorType>& Player::inputs() const noexcept { return impl_->inputs; }
const std::vector<TensorType>& Player::feeds() const noexcept { return impl_->feeds; }
const std::vector<TensorType>& Player::outputs() const noexcept { return impl_->outputs; }
std::size_t Player::calls() const noexcept { return impl_->program.calls.size(); }

Result<MutableTensor> Player::memory(std::string_view name) noexcept {
    return guarded([&] {
        const Slot* found = impl_->program.find(name);
        const Slot& slot = found == nullptr ? impl_->slot("input", name, false) : *found;
        return MutableTensor{slot.type.name, slot.type.dtype, slot.type.shape,
                             impl_->session->memory(slot.value), slot.type.bytes};
    });
}

Status Player::run(Span<ConstTensor> inputs, Span<MutableTensor> outputs) noexcept {
    return guarded_status([&] { impl_->play(inputs, outputs); });
}

}  // namespace keepstep
