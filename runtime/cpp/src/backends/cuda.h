// CUDA as far as playing needs it: memory, streams, events, graphs. No kernel of our own.
//
// What CUDA refuses is a backend error with its own words.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace keepstep::internal {

/// Throws a backend error where a call of CUDA failed; `doing` is what it was to do.
void check_cuda(cudaError_t code, const char* doing);

/// A GPU, as messages and files name it.
struct Gpu {
    int index = 0;  // among those that CUDA shows
    std::string name;
    int major = 0;  // of its compute capability
    int minor = 0;
};

/// The GPU that is current in this thread: the first, unless the program has chosen another.
Gpu current_gpu();

/// Makes a GPU current in this thread for as long as it lives: a player plays on the GPU that it
/// was made for, whatever thread plays it.
class OnGpu {
  public:
    explicit OnGpu(int index);
    OnGpu(const OnGpu&) = delete;
    OnGpu& operator=(const OnGpu&) = delete;
    ~OnGpu();

  private:
    int index_;
    int before_ = 0;
};

/// A block of the GPU's memory. Nothing on any stream may use it when it is given back.
class DeviceMemory {
  public:
    explicit DeviceMemory(std::size_t size);
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;
    ~DeviceMemory();

    std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }

  private:
    std::byte* data_ = nullptr;
    std::size_t size_;
};

/// Launches that the GPU goes through by itself.
class Graph {
  public:
    /// Made from what was recorded. Throws a backend error for what calls the host.
    explicit Graph(cudaGraph_t recorded);
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;
    ~Graph();

    cudaGraphExec_t handle() const noexcept { return handle_; }

  private:
    cudaGraphExec_t handle_ = nullptr;
};

/// Work in order, beside that of other streams.
class Stream {
  public:
    /// One of our own.
    Stream();
    /// The caller's, which is neither made nor destroyed here.
    explicit Stream(cudaStream_t handle) noexcept : handle_(handle), owned_(false) {}
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    ~Stream();

    cudaStream_t handle() const noexcept { return handle_; }

    /// Copies host memory to the device; it may be changed when this returns.
    void upload(std::byte* target, const void* source, std::size_t size);
    /// Copies device memory to the host; it is there when this returns.
    void download(void* target, const std::byte* source, std::size_t size);
    /// Copies within the device.
    void copy(void* target, const void* source, std::size_t size);
    /// Sets bytes to zero.
    void zero(std::byte* target, std::size_t size);
    /// Returns when all is done.
    void wait();

    /// What `launch` launches on this stream, as one graph; nothing of it runs now. Throws a
    /// backend error for what cannot be captured.
    std::unique_ptr<Graph> captured(const std::function<void()>& launch);
    /// Launches a whole graph.
    void play(const Graph& graph);
    /// Seconds that the GPU takes for each work, one behind the other, without waiting between.
    std::vector<double> timed(const std::vector<std::function<void()>>& works);

  private:
    void copy(void* target, const void* source, std::size_t size, cudaMemcpyKind kind);

    cudaStream_t handle_ = nullptr;
    bool owned_ = true;
};

}  // namespace keepstep::internal
