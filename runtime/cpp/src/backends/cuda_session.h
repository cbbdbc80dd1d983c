// What the sessions of all GPU backends have in common: memory, a stream, one graph a loop.
//
// At first a list of calls is launched one by one; then the same launches are captured as one CUDA
// graph. From then on a run is one launch, without host, allocation or copy between its calls.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "addresses.h"
#include "backends/backend.h"
#include "backends/cuda.h"
#include "backends/cuda_memory.h"

namespace keepstep::internal {

/// Some of what others do to the GPU is forbidden while any stream is captured: to start a library,
/// to wait for the whole device. So sessions are opened, closed and captured one after the other.
std::recursive_mutex& exclusive();

/// A plan's values on the GPU, the address of every tensor of every call, and graphs. It is made by
/// a thread that holds `exclusive`, and every subclass's destructor calls `begin_closing` first.
class CudaSession : public Session {
  public:
    Device device() const override { return Device::cuda; }
    std::byte* memory(std::size_t value) override { return values_.value(value); }
    void write(std::byte* value, const ConstTensor& tensor) override;
    void read(const MutableTensor& tensor, const std::byte* value) override;
    void launch(std::size_t call) override;
    void play(const std::vector<std::size_t>& calls) override;
    void wait() override;
    void finish(bool host) override;
    const std::string& note() const override { return note_; }
    Times timed(const std::vector<std::size_t>& calls,
                const std::function<void()>& rewind) override;

  protected:
    /// `stream` is the caller's, or null.
    CudaSession(BundleFolder& bundle, const Plan& plan, const Gpu& gpu, cudaStream_t stream);

    /// Enqueues one call on a stream; its tensors are at `addresses()[call]`.
    virtual void enqueue(std::size_t call, cudaStream_t stream) = 0;
    /// Throws a backend error for engines that say that they cannot be captured on a stream.
    virtual void check_capturable(cudaStream_t) {}
    /// Called behind each of the first runs of a list of calls, by one thread at a time.
    virtual void warmed_up() {}

    const std::vector<CallAddresses>& addresses() const { return addresses_; }
    const ConstantAddresses& constants() const { return values_.constants(); }

    /// Waits for what was launched, gives graphs back, and keeps other sessions from being opened,
    /// closed or captured until the last member is gone.
    void begin_closing() noexcept;

  private:
    /// How a list of calls is played.
    struct Loop {
        int runs = 0;
        std::unique_ptr<Graph> graph;  // none before it was captured
    };
    struct Closing {
        explicit Closing(int gpu) : lock(exclusive()), on(gpu) {}
        std::lock_guard<std::recursive_mutex> lock;
        OnGpu on;
    };
    void copy(void* target, const void* source, std::size_t size);
    void enqueue_all(const std::vector<std::size_t>& calls, cudaStream_t stream);
    void capture(const std::vector<std::size_t>& calls, Loop& loop);

    std::optional<Closing> closing_;  // the first member: what it holds is let go last
    int gpu_;
    // Captures are recorded here also where another stream plays: the caller's may be one that
    // cannot be captured, or hold work that is not ours.
    Stream own_;
    Stream stream_;
    bool callers_;
    DeviceValues values_;
    std::vector<CallAddresses> addresses_;
    std::map<std::vector<std::size_t>, Loop> loops_;  // by the calls that were played
    std::string note_;
};

}  // namespace keepstep::internal
