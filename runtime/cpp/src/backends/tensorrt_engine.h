// Engines of TensorRT-RTX and TensorRT: loaded, compared with the plan, made ready to launch.
#pragma once

#include <NvInferRuntime.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "backends/cuda.h"
#include "backends/tensorrt_contexts.h"
#include "backends/tensorrt_diagnostics.h"
#include "plan.h"

namespace keepstep::internal {

/// The library's name for people, with the version that is loaded.
const std::string& library_title();

/// Throws a backend error where the library is not one that this build can call.
void check_library();

/// What the library has told; launches add to it.
ToldErrors& told_errors();

/// A loaded engine; several players launch it, each through a context of its own.
class Engine {
  public:
    /// Loads an engine from memory, which may be gone afterwards. `kernels` is the file of what is
    /// compiled for this GPU; `place` names the engine in messages. Throws a backend error.
    Engine(const std::byte* data, std::size_t size, const Gpu& gpu, std::string kernels,
           const std::string& place);

    /// Throws a backend error where its tensors are not those of the stage.
    void check_interface(const Plan& plan, const Stage& stage, const std::string& place) const;

    /// What one player launches it through; scratch memory is to be given to it, as much as
    /// `scratch_bytes`. Throws a backend error.
    std::unique_ptr<nvinfer1::IExecutionContext> context(const std::string& place);

    /// What a context needs beside its tensors; shapes are static, so it is known.
    std::size_t scratch_bytes(nvinfer1::IExecutionContext& context) const;

    /// Keeps what has been compiled for the next process.
    void keep_kernels() { contexts_->keep_kernels(); }

  private:
    std::unique_ptr<nvinfer1::IRuntime> runtime_;  // there as long as its engine
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::optional<Contexts> contexts_;
};

}  // namespace keepstep::internal
