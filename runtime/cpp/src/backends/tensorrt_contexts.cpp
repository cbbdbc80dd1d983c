#include "backends/tensorrt_contexts.h"

#include <utility>

#include "kernel_cache_file.h"

namespace keepstep::internal {
namespace {

constexpr auto strategy = nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED;

}  // namespace

#ifdef TRT_MAJOR_RTX

Contexts::Contexts(nvinfer1::ICudaEngine& engine, std::string kernels)
    : engine_(engine), kernels_(std::move(kernels)), config_(engine.createRuntimeConfig()) {
    if (config_ == nullptr) return;
    config_->setExecutionContextAllocationStrategy(strategy);
    // The whole loop is captured as one graph; engines are not to make their own.
    config_->setCudaGraphStrategy(nvinfer1::CudaGraphStrategy::kDISABLED);
    cache_.reset(config_->createRuntimeCache());
    if (cache_ == nullptr) return;
    const std::string bytes = kept_bytes(kernels_);
    if (!bytes.empty() && cache_->deserialize(bytes.data(), bytes.size())) known_ = bytes.size();
    config_->setRuntimeCache(*cache_);
}

std::unique_ptr<nvinfer1::IExecutionContext> Contexts::make() {
    if (config_ == nullptr) return nullptr;
    return std::unique_ptr<nvinfer1::IExecutionContext>(
        engine_.createExecutionContext(config_.get()));
}

void Contexts::keep_kernels() {
    if (cache_ == nullptr) return;
    const std::unique_ptr<nvinfer1::IHostMemory> bytes(cache_->serialize());
    if (bytes == nullptr || bytes->size() <= known_) return;
    if (keep_bytes(kernels_, bytes->data(), bytes->size())) known_ = bytes->size();
}

#else

Contexts::Contexts(nvinfer1::ICudaEngine& engine, std::string) : engine_(engine) {}

std::unique_ptr<nvinfer1::IExecutionContext> Contexts::make() {
    return std::unique_ptr<nvinfer1::IExecutionContext>(engine_.createExecutionContext(strategy));
}

void Contexts::keep_kernels() {}

#endif

}  // namespace keepstep::internal
