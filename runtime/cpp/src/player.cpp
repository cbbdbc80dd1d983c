#include "keepstep/player.h"

#include <algorithm>
#include <utility>

#include "exclusive_use.h"
#include "clock.h"
#include "error.h"
#include "inputs.h"
#include "player_impl.h"
#include "results.h"
#include "quoting.h"

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

void check_there(const std::unique_ptr<Player::Impl>& impl) {
    if (impl == nullptr) internal::throw_input_error("this player was moved to another one");
}

}  // namespace

Player::Impl::Impl(std::shared_ptr<internal::BundleFolder> folder, const internal::Plan& plan,
                   const std::string& backend, const PlayerOptions& options)
    : bundle(std::move(folder)),
      plan_name(plan.name),
      program(plan),
      session(internal::open_session(*bundle, plan, backend, options)),
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
    for (const internal::Call& call : plan.calls) {
        const bool is_step = call.step.has_value();
        calls.push_back({call.stage, call.step.value_or(-1),
                         is_step ? plan.steps[static_cast<std::size_t>(*call.step)].label : ""});
    }
}

const Slot& Player::Impl::slot(const char* what, std::string_view name, bool is_output) const {
    const Slot* found = program.find(name);
    if (found == nullptr || (found->kind == Slot::Kind::output) != is_output) {
        const std::vector<std::string> known = names(is_output ? outputs : inputs);
        internal::throw_input_error(
            "plan " + internal::quote(plan_name) + " has no " + what + " " + internal::quote(name) +
            internal::did_you_mean(name, known) + "; it has: " + internal::quote_names(known) +
            (is_output ? "" : "; it may also be fed: " + internal::quote_names(names(feeds))));
    }
    return *found;
}

void Player::Impl::check(Span<ConstTensor> tensors, Span<MutableTensor> results) {
    given.assign(given.size(), false);
    taken.assign(taken.size(), false);
    const auto once = [&](std::vector<bool>& seen, const Slot& found) {
        const auto index = static_cast<std::size_t>(&found - program.slots.data());
        if (seen[index]) {
            internal::throw_input_error(internal::quote(found.type.name) +
                                        " is given twice in one run");
        }
        seen[index] = true;
    };
    for (const ConstTensor& tensor : tensors) {
        const Slot& found = slot("input", tensor.name, false);
        internal::check_tensor("input", tensor, found.type);
        check_device("input", tensor);
        if (tensor.device == Device::host) {
            internal::check_elements(tensor);
            if (found.range) internal::check_range(tensor, *found.range);
        }
        once(given, found);
    }
    for (const MutableTensor& result : results) {
        const Slot& found = slot("output", result.name, true);
        internal::check_tensor("output", result, found.type);
        check_device("output", result);
        once(taken, found);
    }
    internal::calls_to_launch(program, given, launches);
}

void Player::Impl::check_device(const char* what, const ConstTensor& tensor) const {
    if (tensor.device == Device::host || tensor.device == session->device()) return;
    internal::throw_input_error(std::string(what) + " " + internal::quote(tensor.name) +
                                " is said to lie on a GPU, and this player has none: give host "
                                "memory, or play with a backend for GPUs");
}

void Player::Impl::write(Span<ConstTensor> tensors) {
    for (std::size_t i = 0; i < program.slots.size(); ++i) {
        const Slot& left_out = program.slots[i];
        if (given[i] || !left_out.has_default()) continue;
        const TensorType& type = left_out.type;
        session->write(session->memory(left_out.value),
                       {type.name, type.dtype, type.shape, left_out.fallback.data(), type.bytes});
    }
    for (const ConstTensor& tensor : tensors) {
        std::byte* memory = session->memory(program.find(tensor.name)->value);
        if (tensor.data != memory) session->write(memory, tensor);
    }
}

void Player::Impl::read(Span<MutableTensor> results) {
    for (const MutableTensor& result : results) {
        const std::byte* memory = session->memory(program.find(result.name)->value);
        if (result.data != memory) session->read(result, memory);
    }
}

void Player::Impl::play(Span<ConstTensor> tensors, Span<MutableTensor> results,
                        const Progress& progress) {
    const auto in_host = [](const auto& tensor) { return tensor.device == Device::host; };
    const internal::ExclusiveUse alone(playing);
    check(tensors, results);
    write(tensors);
    if (!progress) {
        session->play(launches);
    } else {
        launch_watched(progress);
    }
    read(results);
    session->finish(std::any_of(tensors.begin(), tensors.end(), in_host) ||
                    std::any_of(results.begin(), results.end(), in_host));
    check_results(tensors, results);
}

void Player::Impl::check_results(Span<ConstTensor> tensors, Span<MutableTensor> results) {
    const internal::BadOutput bad = internal::bad_output(program, *session, results);
    if (bad.slot == nullptr) return;
    std::string origin =
        "inputs in the player's own memory cannot be played once more: give them in memory of "
        "your own to be told which stage it is";
    if (own(tensors) == nullptr) {
        write(tensors);
        origin = internal::bad_call(program, *session, launches, calls);
    }
    const TensorType& type = bad.slot->type;
    internal::throw_result_error(
        "plan " + internal::quote(plan_name) + ": " + std::to_string(bad.count) + " of " +
        std::to_string(type.bytes / item_bytes(type.dtype)) + " elements of the output " +
        internal::quote(type.name) + " are NaN or infinite; " + origin +
        ": give smaller inputs, or export with --dtype bfloat16 or float32");
}

const ConstTensor* Player::Impl::own(Span<ConstTensor> tensors) const {
    for (const ConstTensor& tensor : tensors) {
        if (tensor.data == session->memory(program.find(tensor.name)->value)) return &tensor;
    }
    return nullptr;
}

void Player::Impl::launch_watched(const Progress& progress) {
    for (std::size_t done = 0; done < launches.size();) {
        session->launch(launches[done]);
        session->wait();
        if (!progress(++done, launches.size())) internal::throw_cancelled(done);
    }
}

internal::Times Player::Impl::timed_watched(const Progress& progress) {
    internal::Times times;
    session->wait();
    const auto begin = internal::Clock::now();
    auto last = begin;
    launch_watched([&](std::size_t done, std::size_t all) {
        times.calls.push_back(internal::seconds_between(last, internal::Clock::now()));
        const bool goes_on = progress(done, all);
        last = internal::Clock::now();  // what is done with the news is no part of the next call
        return goes_on;
    });
    times.seconds = internal::seconds_between(begin, last);
    return times;
}

Profile Player::Impl::profile(Span<ConstTensor> tensors, Span<MutableTensor> results,
                              const Progress& progress) {
    const internal::ExclusiveUse alone(playing);
    check(tensors, results);
    if (const ConstTensor* tensor = own(tensors)) {
        internal::throw_input_error("input " + internal::quote(tensor->name) +
                                    " lies in the player's own memory, which the runs of a "
                                    "profile overwrite: give memory of your own");
    }
    write(tensors);
    const internal::Times times = progress ? timed_watched(progress)
                                           : session->timed(launches, [&] { write(tensors); });
    read(results);
    session->finish(true);
    check_results(tensors, results);
    Profile profile;
    profile.seconds = times.seconds;
    for (std::size_t i = 0; i < launches.size(); ++i) {
        profile.calls.push_back({launches[i], times.calls[i]});
    }
    return profile;
}

Player::Player(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Player::Player(Player&&) noexcept = default;
Player& Player::operator=(Player&&) noexcept = default;
Player::~Player() = default;

const std::vector<TensorType>& Player::inputs() const noexcept { return impl_->inputs; }
const std::vector<TensorType>& Player::feeds() const noexcept { return impl_->feeds; }
const std::vector<TensorType>& Player::outputs() const noexcept { return impl_->outputs; }
const std::vector<Call>& Player::calls() const noexcept { return impl_->calls; }

bool Player::has_default(std::string_view input) const noexcept {
    const Slot* found = impl_->program.find(input);
    return found != nullptr && found->has_default();
}

Result<MutableTensor> Player::memory(std::string_view name) noexcept {
    return guarded([&] {
        check_there(impl_);
        const Slot* found = impl_->program.find(name);
        const Slot& slot = found == nullptr ? impl_->slot("input", name, false) : *found;
        return MutableTensor{slot.type.name, slot.type.dtype, slot.type.shape,
                             impl_->session->memory(slot.value), slot.type.bytes,
                             impl_->session->device()};
    });
}

Status Player::run(Span<ConstTensor> inputs, Span<MutableTensor> outputs,
                   const Progress& progress) noexcept {
    return guarded_status([&] {
        check_there(impl_);
        impl_->play(inputs, outputs, progress);
    });
}

Result<Profile> Player::profile(Span<ConstTensor> inputs, Span<MutableTensor> outputs,
                                const Progress& progress) noexcept {
    return guarded([&] {
        check_there(impl_);
        return impl_->profile(inputs, outputs, progress);
    });
}

const std::string& Player::note() const noexcept { return impl_->session->note(); }

}  // namespace keepstep
