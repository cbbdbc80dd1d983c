// What is behind a Player: all that a run needs, allocated when it is made.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backends/backend.h"
#include "bundle_folder.h"
#include "keepstep/player.h"
#include "program.h"

namespace keepstep {

// Its members are no part of what the library shows.
struct __attribute__((visibility("hidden"))) Player::Impl {
    Impl(std::shared_ptr<internal::BundleFolder> folder, const internal::Plan& plan,
         const std::string& backend, const PlayerOptions& options);

    /// The slot that a tensor of a run is for. Throws an input error when there is none.
    const internal::Slot& slot(const char* what, std::string_view name, bool is_output) const;
    /// Refuses what does not fit, and finds out what is to be launched.
    void check(Span<ConstTensor> tensors, Span<MutableTensor> results);
    /// Refuses memory where the session cannot reach it.
    void check_device(const char* what, const ConstTensor& tensor) const;
    /// Also the defaults of inputs that are not given.
    void write(Span<ConstTensor> tensors);
    void read(Span<MutableTensor> results);
    /// One of these that lies in the player's own memory, which a run may overwrite; or null.
    const ConstTensor* own(Span<ConstTensor> tensors) const;
    /// Refuses outputs of a run, as far as the host sees them, that are NaN or infinite.
    void check_results(Span<ConstTensor> tensors, Span<MutableTensor> results);
    void play(Span<ConstTensor> tensors, Span<MutableTensor> results, const Progress& progress);
    Profile profile(Span<ConstTensor> tensors, Span<MutableTensor> results,
                    const Progress& progress);
    /// Launches call by call, each waited for and told of.
    void launch_watched(const Progress& progress);
    /// The same, and how long each took.
    internal::Times timed_watched(const Progress& progress);

    std::shared_ptr<internal::BundleFolder> bundle;  // holds the constants that the session reads
    std::string plan_name;
    internal::Program program;
    std::unique_ptr<internal::Session> session;
    std::vector<TensorType> inputs;
    std::vector<TensorType> feeds;
    std::vector<TensorType> outputs;
    std::vector<Call> calls;

    std::atomic_flag playing = ATOMIC_FLAG_INIT;
    // Of the run that is played, here so that it need not allocate.
    std::vector<bool> given;
    std::vector<bool> taken;
    std::vector<std::size_t> launches;
};

}  // namespace keepstep
