#include "backends/cuda_session.h"

#include "error.h"

namespace keepstep::internal {
namespace {

constexpr int attempts = 3;  // at a capture: an engine may take memory once more than it says

}  // namespace

std::recursive_mutex& exclusive() {
    static std::recursive_mutex mutex;
    return mutex;
}

CudaSession::CudaSession(BundleFolder& bundle, const Plan& plan, const Gpu& gpu,
                         cudaStream_t stream)
    : gpu_(gpu.index),
      stream_(stream == nullptr ? own_.handle() : stream),
      callers_(stream != nullptr),
      values_(bundle, plan, gpu_, own_),
      addresses_(call_addresses(plan, values_.arena(), values_.constants())) {}

void CudaSession::write(std::byte* value, const ConstTensor& tensor) {
    const OnGpu on(gpu_);
    if (tensor.device == Device::cuda) {
        copy(value, tensor.data, tensor.bytes);
    } else {
        stream_.upload(value, tensor.data, tensor.bytes);
    }
}

void CudaSession::read(const MutableTensor& tensor, const std::byte* value) {
    const OnGpu on(gpu_);
    if (tensor.device == Device::cuda) {
        copy(tensor.data, value, tensor.bytes);
    } else {
        stream_.download(tensor.data, value, tensor.bytes);
    }
}

void CudaSession::launch(std::size_t call) {
    const OnGpu on(gpu_);
    enqueue(call, stream_.handle());
}

void CudaSession::play(const std::vector<std::size_t>& calls) {
    const OnGpu on(gpu_);
    Loop& loop = loops_[calls];
    if (loop.graph) {
        stream_.play(*loop.graph);
        return;
    }
    enqueue_all(calls, stream_.handle());
    if (loop.runs++ < attempts) {
        stream_.wait();
        const std::lock_guard<std::recursive_mutex> lock(exclusive());
        capture(calls, loop);
        warmed_up();
    }
}

void CudaSession::wait() {
    const OnGpu on(gpu_);
    stream_.wait();
}

void CudaSession::finish(bool host) {
    if (host || !callers_) wait();
}

Times CudaSession::timed(const std::vector<std::size_t>& calls,
                         const std::function<void()>& rewind) {
    const OnGpu on(gpu_);
    const Loop& loop = loops_[calls];
    for (int run = 0; run <= attempts && !loop.graph; ++run) {
        play(calls);  // what is done once is not to be counted
        rewind();
    }
    std::vector<std::function<void()>> launches;
    for (const std::size_t call : calls) launches.emplace_back([this, call] { launch(call); });
    Times times;
    times.calls = stream_.timed(launches);
    rewind();
    times.seconds = stream_.timed({[&] { play(calls); }}).front();
    return times;
}

void CudaSession::begin_closing() noexcept {
    try {
        closing_.emplace(gpu_);
        stream_.wait();
    } catch (...) {
        // A GPU that has failed is given back as far as it goes.
    }
    loops_.clear();
}

void CudaSession::copy(void* target, const void* source, std::size_t size) {
    stream_.copy(target, source, size);
    // What the caller has given may be gone as soon as the run has ended, also with an error. On a
    // stream of the caller's it is there until that has come so far.
    if (!callers_) stream_.wait();
}

void CudaSession::enqueue_all(const std::vector<std::size_t>& calls, cudaStream_t stream) {
    for (const std::size_t call : calls) enqueue(call, stream);
}

void CudaSession::capture(const std::vector<std::size_t>& calls, Loop& loop) {
    try {
        check_capturable(own_.handle());
        loop.graph = own_.captured([&] { enqueue_all(calls, own_.handle()); });
        note_.clear();
    } catch (const Error& error) {
        // It is tried again behind the next runs.
        note_ = "calls are launched one by one, not as one CUDA graph: " + error.message;
    }
}

}  // namespace keepstep::internal
