// NVIDIA GPUs, with TensorRT-RTX or TensorRT: one backend, for the library that it is linked with.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backends/cuda_session.h"
#include "backends/tensorrt_engine.h"

namespace keepstep::internal {

/// A stage's engine, as one player launches it.
struct Launcher {
    std::string place;  // of the engine, in messages
    std::shared_ptr<Engine> engine;
    std::unique_ptr<nvinfer1::IExecutionContext> context;
};

/// One context an engine, all with the same scratch memory: engines work in turn.
class TensorRTSession : public CudaSession {
  public:
    /// Loads the plan's engines; those that other players have are used again. Throws a backend
    /// error.
    static std::unique_ptr<Session> open(BundleFolder& bundle, const Plan& plan,
                                         const PlayerOptions& options);

    /// `launchers`, by their stage's place in `Plan::stages`, have no contexts yet.
    TensorRTSession(BundleFolder& bundle, const Plan& plan, const Gpu& gpu, cudaStream_t stream,
                    std::vector<Launcher> launchers);
    ~TensorRTSession() override { begin_closing(); }

  protected:
    void enqueue(std::size_t call, cudaStream_t stream) override;
    void check_capturable(cudaStream_t stream) override;
    void warmed_up() override;

  private:
    std::optional<DeviceMemory> scratch_;  // there as long as the contexts
    std::vector<Launcher> launchers_;
    std::vector<std::size_t> launched_;  // by call
};

}  // namespace keepstep::internal
