// The player: a plan, loaded and bound, that turns inputs into outputs any number of times.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "keepstep/export.h"
#include "keepstep/status.h"
#include "keepstep/tensor.h"

namespace keepstep {

/// Plays one plan; made by `Bundle::player`. Everything is allocated then: a run allocates nothing.
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

    /// What `run` must be given; but for what only calls read that given feeds leave out.
    const std::vector<TensorType>& inputs() const noexcept;
    /// What `run` may be given in place of the calls that compute it.
    const std::vector<TensorType>& feeds() const noexcept;
    /// What a run writes.
    const std::vector<TensorType>& outputs() const noexcept;
    /// How many calls the plan has.
    std::size_t calls() const noexcept;

    /// The player's own memory of an input, feed or output, valid as long as the player.
    ///
    /// What is written there before a run and given to it is not copied; an output is there until
    /// the next run. Inputs and feeds have to be written again for every run: later calls use
    /// their memory. Fails with `input_error` for another name.
    Result<MutableTensor> memory(std::string_view name) noexcept;

    /// Plays the plan once: takes `inputs`, launches its calls, copies `outputs` out.
    ///
    /// Tensors come in any order. dtype and shape are exactly those of `inputs()`, `feeds()` and
    /// `outputs()`; every float is finite. A tensor that is the player's `memory` is not copied.
    /// Nothing remains of a run, also of one that failed. Fails with `input_error` for what does
    /// not fit or while another thread plays, and with `backend_error` when an engine fails.
    Status run(Span<ConstTensor> inputs, Span<MutableTensor> outputs = {}) noexcept;

  private:
    std::unique_ptr<Impl> impl_;
};

}  // namespace keepstep
