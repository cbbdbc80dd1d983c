// How an engine's contexts are made: with scratch memory that is given to them, without graphs of
// their own, and with TensorRT-RTX from the kernels that it has compiled before.
#pragma once

#include <NvInferRuntime.h>

#include <cstddef>
#include <memory>
#include <string>

namespace keepstep::internal {

/// Makes the contexts of one engine, for one thread at a time. It and the engine are there as long
/// as any of them.
class Contexts {
  public:
    /// `kernels` is the file of compiled kernels.
    ///
    /// The library refuses one of another GPU, driver or version of its own, and starts afresh.
    Contexts(nvinfer1::ICudaEngine& engine, std::string kernels);

    /// A context that has no scratch memory yet; null where the library refuses.
    std::unique_ptr<nvinfer1::IExecutionContext> make();

    /// Writes what has been compiled, if that is news; a bundle may lie where none can write.
    void keep_kernels();

  private:
    nvinfer1::ICudaEngine& engine_;
    // TensorRT compiles nothing where it plays, and its headers know neither of these. A build of
    // TensorRT-RTX with them, which are public, plays the same and compiles each time anew.
#ifdef TRT_MAJOR_RTX
    std::string kernels_;
    std::unique_ptr<nvinfer1::IRuntimeCache> cache_;
    std::unique_ptr<nvinfer1::IRuntimeConfig> config_;  // refers to the cache
    std::size_t known_ = 0;                             // bytes of the file
#endif
};

}  // namespace keepstep::internal
