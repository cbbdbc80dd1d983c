#include "backends/cuda.h"

#include <algorithm>

#include "error.h"

namespace keepstep::internal {
namespace {

std::string said(cudaError_t code) {
    return std::string(cudaGetErrorString(code)) + " (" + cudaGetErrorName(code) + ")";
}

/// An event with the GPU's time.
class Event {
  public:
    Event() { check_cuda(cudaEventCreate(&handle_), "make an event"); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    ~Event() { cudaEventDestroy(handle_); }

    void record(cudaStream_t stream) {
        check_cuda(cudaEventRecord(handle_, stream), "record an event");
    }
    double seconds_until(const Event& later) const {
        float milliseconds = 0;
        check_cuda(cudaEventElapsedTime(&milliseconds, handle_, later.handle_), "read a clock");
        return milliseconds / 1e3;
    }

  private:
    cudaEvent_t handle_ = nullptr;
};

/// A graph as it was recorded, which is not yet one that can be launched.
class Recording {
  public:
    Recording() = default;
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;
    ~Recording() {
        if (handle != nullptr) cudaGraphDestroy(handle);
    }

    cudaGraph_t handle = nullptr;
};

/// Refuses a graph that calls the host: what a call gives back once, it would give back again.
void refuse_host_nodes(cudaGraph_t graph) {
    std::size_t count = 0;
    check_cuda(cudaGraphGetNodes(graph, nullptr, &count), "read a graph");
    std::vector<cudaGraphNode_t> nodes(count);
    if (count > 0) check_cuda(cudaGraphGetNodes(graph, nodes.data(), &count), "read a graph");
    for (cudaGraphNode_t node : nodes) {
        cudaGraphNodeType type{};
        check_cuda(cudaGraphNodeGetType(node, &type), "read a graph");
        if (type == cudaGraphNodeTypeHost) {
            throw_backend_error("an engine calls the host between its kernels");
        }
    }
}

}  // namespace

void check_cuda(cudaError_t code, const char* doing) {
    if (code == cudaSuccess) return;
    cudaGetLastError();  // what is reported here is not to be found by the next library that asks
    throw_backend_error("CUDA could not " + std::string(doing) + ": " + said(code));
}

Gpu current_gpu() {
    int count = 0;
    check_cuda(cudaGetDeviceCount(&count), "find a GPU");
    Gpu gpu;
    cudaDeviceProp properties{};
    check_cuda(cudaGetDevice(&gpu.index), "find a GPU");
    check_cuda(cudaGetDeviceProperties(&properties, gpu.index), "find a GPU");
    gpu.name = properties.name;
    gpu.major = properties.major;
    gpu.minor = properties.minor;
    return gpu;
}

OnGpu::OnGpu(int index) : index_(index) {
    check_cuda(cudaGetDevice(&before_), "find a GPU");
    if (before_ != index_) check_cuda(cudaSetDevice(index_), "use a GPU");
}

OnGpu::~OnGpu() {
    if (before_ != index_) cudaSetDevice(before_);
}

DeviceMemory::DeviceMemory(std::size_t size) : size_(size) {
    void* data = nullptr;
    const cudaError_t code = cudaMalloc(&data, std::max<std::size_t>(size, 1));
    if (code != cudaSuccess) {
        std::size_t free = 0;
        std::size_t all = 0;
        cudaMemGetInfo(&free, &all);
        const std::string doing =
            "allocate " + std::to_string(size) + " bytes (" + std::to_string(free) + " are free)";
        check_cuda(code, doing.c_str());
    }
    data_ = static_cast<std::byte*>(data);
}

DeviceMemory::~DeviceMemory() { cudaFree(data_); }

Graph::Graph(cudaGraph_t recorded) {
    refuse_host_nodes(recorded);
    check_cuda(cudaGraphInstantiateWithFlags(&handle_, recorded, 0), "make a graph");
}

Graph::~Graph() { cudaGraphExecDestroy(handle_); }

Stream::Stream() {
    check_cuda(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "make a stream");
}

Stream::~Stream() {
    if (owned_) cudaStreamDestroy(handle_);
}

void Stream::upload(std::byte* target, const void* source, std::size_t size) {
    copy(target, source, size, cudaMemcpyHostToDevice);
    wait();  // pinned memory is read while the copy is done
}

void Stream::download(void* target, const std::byte* source, std::size_t size) {
    copy(target, source, size, cudaMemcpyDeviceToHost);
    wait();
}

void Stream::copy(void* target, const void* source, std::size_t size) {
    copy(target, source, size, cudaMemcpyDeviceToDevice);
}

void Stream::zero(std::byte* target, std::size_t size) {
    check_cuda(cudaMemsetAsync(target, 0, size, handle_), "set memory to zero");
}

void Stream::wait() {
    check_cuda(cudaStreamSynchronize(handle_), "finish what was launched");
}

std::unique_ptr<Graph> Stream::captured(const std::function<void()>& launch) {
    // Other threads may allocate meanwhile.
    check_cuda(cudaStreamBeginCapture(handle_, cudaStreamCaptureModeThreadLocal),
               "begin a capture");
    Recording recorded;
    try {
        launch();
    } catch (...) {
        cudaStreamEndCapture(handle_, &recorded.handle);
        cudaGetLastError();
        throw;
    }
    check_cuda(cudaStreamEndCapture(handle_, &recorded.handle), "end a capture");
    return std::make_unique<Graph>(recorded.handle);
}

void Stream::play(const Graph& graph) {
    check_cuda(cudaGraphLaunch(graph.handle(), handle_), "launch a graph");
}

std::vector<double> Stream::timed(const std::vector<std::function<void()>>& works) {
    std::vector<Event> events(works.size() + 1);
    events[0].record(handle_);
    for (std::size_t i = 0; i < works.size(); ++i) {
        works[i]();
        events[i + 1].record(handle_);
    }
    wait();
    std::vector<double> seconds;
    for (std::size_t i = 0; i < works.size(); ++i) {
        seconds.push_back(events[i].seconds_until(events[i + 1]));
    }
    return seconds;
}

void Stream::copy(void* target, const void* source, std::size_t size, cudaMemcpyKind kind) {
    check_cuda(cudaMemcpyAsync(target, source, size, kind, handle_), "copy memory");
}

}  // namespace keepstep::internal
