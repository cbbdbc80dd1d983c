// The player: a plan, loaded and bound, that turns inputs into outputs any number of times.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "keepstep/export.h"
#include "keepstep/status.h"
#include "keepstep/tensor.h"

namespace keepstep {

/// How a plan is loaded.
struct PlayerOptions {
    /// CPU threads of a launch, at most 1024; 0: as many as the backend likes. It means nothing on
    /// a GPU.
    int threads = 0;
    /// The `cudaStream_t` that a GPU's player launches on; null: one of its own.
    void* cuda_stream = nullptr;
};

/// One launch of a plan, for people.
struct Call {
    std::string stage;
    std::int64_t step = -1;  ///< of the sampler; -1 before the first and after the last
    std::string label;       ///< of that step, such as "full"; empty where there is none
};

/// How long one call took.
struct CallTime {
    std::size_t call = 0;  ///< its place in `Player::calls()`
    double seconds = 0;
};

/// A run that was measured: the whole as `Player::run` plays it, and each call by itself. On a GPU
/// the whole is less than its parts: the calls are launched as one there.
struct Profile {
    double seconds = 0;
    std::vector<CallTime> calls;
};

/// Told of every call that is done, and of how many there are; false ends the run. It throws
/// nothing.
using Progress = std::function<bool(std::size_t done, std::size_t all)>;

/// Plays one plan; made by `Bundle::player`. Everything is allocated then: a run allocates nothing
/// of its own, once it has been played; engines may.
///
/// One thread at a time may use a player; other players of the same bundle are independent of it
/// and share its weights. A player keeps what it needs of its bundle alive.
class KEEPSTEP_API Player {
  public:
    struct Impl;

    explicit Player(std::unique_ptr<Impl> impl) noexcept;
    Player(Player&&) noexcept;
    Player& operator=(Player&&) noexcept;
    ~Player();

    /// What `run` must be given; but for those with a default in the plan, and for what only calls
    /// read that given feeds leave out.
    const std::vector<TensorType>& inputs() const noexcept;
    /// Whether the plan says what this input holds when it is left out of a run.
    bool has_default(std::string_view input) const noexcept;
    /// What `run` may be given in place of the calls that compute it.
    const std::vector<TensorType>& feeds() const noexcept;
    /// What a run writes.
    const std::vector<TensorType>& outputs() const noexcept;
    /// The calls of the plan, in their order.
    const std::vector<Call>& calls() const noexcept;

    /// The player's own memory of an input, feed or output, valid as long as the player; on a GPU
    /// if that is where it plays.
    ///
    /// What is written there before a run and given to it is not copied; an output is there until
    /// the next run, or until memory of an input or feed is written: they may share bytes. Inputs
    /// and feeds have to be written again for every run: later calls use their memory. Fails with `input_error` for
    /// another name.
    Result<MutableTensor> memory(std::string_view name) noexcept;

    /// Plays the plan once: takes `inputs`, launches its calls, copies `outputs` out.
    ///
    /// Tensors come in any order. dtype and shape are exactly those of `inputs()`, `feeds()` and
    /// `outputs()`; what lies in host memory is finite and in its range. A tensor that is the player's `memory`
    /// is not copied. It returns when all is done; where the stream is the caller's and all
    /// tensors lie on the GPU, when all is enqueued there. With `progress` the calls are launched
    /// and waited for one by one. Nothing remains of a run, also of one that failed. Fails with
    /// `input_error` for what does not fit or while another thread plays, with `backend_error`
    /// when an engine fails, with `result_error` where outputs that the host can see are NaN or
    /// infinite, and with `cancelled`.
    Status run(Span<ConstTensor> inputs, Span<MutableTensor> outputs = {},
               const Progress& progress = {}) noexcept;

    /// Plays the plan, gives its outputs, and measures the run and every call of it.
    ///
    /// It may play several times, so inputs are not to lie in the player's own `memory`. With
    /// `progress` it plays once, call by call as `run` does, and the whole is what that took.
    /// Fails as `run` does.
    Result<Profile> profile(Span<ConstTensor> inputs, Span<MutableTensor> outputs = {},
                            const Progress& progress = {}) noexcept;

    /// What a person should know of how the runs so far were played, as one line: why a GPU's loop
    /// is not one CUDA graph. Empty where all is as it should be; valid until the next run.
    const std::string& note() const noexcept;

  private:
    std::unique_ptr<Impl> impl_;
};

}  // namespace keepstep
