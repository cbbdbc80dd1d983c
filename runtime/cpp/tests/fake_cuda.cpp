#include "fake_cuda.h"

#include <cstdlib>
#include <cstring>
#include <deque>
#include <utility>

namespace {

using Work = std::function<void()>;

}  // namespace

struct CUstream_st {
    std::deque<Work> waiting;
    struct CUgraph_st* recording = nullptr;
    bool broken = false;  // what was done meanwhile cannot be captured
};

struct CUgraph_st {
    std::vector<Work> works;
    bool host_nodes = false;
};

struct CUgraphExec_st {
    std::vector<Work> works;
};

struct CUevent_st {
    float time = -1;  // not reached yet
};

namespace keepstep::tests {

FakeCuda& fake_cuda() {
    static FakeCuda fake;
    return fake;
}

}  // namespace keepstep::tests

namespace {

using keepstep::tests::fake_cuda;

float the_time = 0;
cudaStream_t capturing = nullptr;  // there is one thread
CUstream_st legacy;

CUstream_st& known(cudaStream_t stream) { return stream == cudaStreamLegacy ? legacy : *stream; }

void misuse(const char* what) { fake_cuda().misuse.emplace_back(what); }

template <class Kernel>
cudaError_t enqueue(cudaStream_t handle, Kernel work) {
    if (fake_cuda().is_idle) return cudaSuccess;
    CUstream_st& stream = known(handle);
    if (stream.recording != nullptr) {
        stream.recording->works.push_back(std::move(work));
        stream.recording->host_nodes = fake_cuda().host_nodes;
    } else {
        stream.waiting.push_back(std::move(work));
    }
    return cudaSuccess;
}

void finish(CUstream_st& stream) {
    for (; !stream.waiting.empty(); stream.waiting.pop_front()) stream.waiting.front()();
}

/// What must not happen between the beginning and the end of a capture.
bool forbidden(const char* what) {
    if (capturing == nullptr) return false;
    misuse(what);
    known(capturing).broken = true;
    return true;
}

}  // namespace

namespace keepstep::tests {

cudaError_t fake_launch(cudaStream_t stream, Work kernel) {
    FakeCuda& fake = fake_cuda();
    if (fake.is_idle) return cudaSuccess;
    fake.devices.push_back(fake.device);
    if (known(stream).recording != nullptr && fake.launch_error != cudaSuccess) {
        known(stream).broken = true;
        return fake.launch_error;
    }
    return enqueue(stream, std::move(kernel));
}

}  // namespace keepstep::tests

extern "C" {

const char* cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorNoDevice ? "cudaErrorNoDevice" : "cudaErrorOfTheFake";
}

const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorNoDevice ? "no CUDA-capable device is detected" : "the fake says no";
}

cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 2;
    return fake_cuda().device_error;
}

cudaError_t cudaGetDevice(int* device) {
    *device = fake_cuda().device;
    return fake_cuda().device_error;
}

cudaError_t cudaSetDevice(int device) {
    fake_cuda().device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    std::strcpy(properties->name, "NVIDIA Fake (host)");
    properties->major = 9;
    properties->minor = 0;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* all) {
    *free = 1000;
    *all = 2000;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, std::size_t size) {
    if (forbidden("allocating during a capture")) return cudaErrorStreamCaptureUnsupported;
    if (size > std::size_t{1} << 40) return cudaErrorMemoryAllocation;
    *memory = std::aligned_alloc(256, (size + 255) / 256 * 256);
    std::memset(*memory, 0xEE, size);  // leftovers
    ++fake_cuda().memories;
    return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
    if (forbidden("giving back during a capture")) return cudaErrorStreamCaptureUnsupported;
    std::free(memory);
    if (memory != nullptr) --fake_cuda().memories;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, std::size_t size, cudaMemcpyKind,
                            cudaStream_t stream) {
    return enqueue(stream, [=] { std::memcpy(target, source, size); });
}

cudaError_t cudaMemsetAsync(void* target, int byte, std::size_t size, cudaStream_t stream) {
    return enqueue(stream, [=] { std::memset(target, byte, size); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    if (flags != cudaStreamNonBlocking) misuse("a stream that waits for the legacy one");
    *stream = new CUstream_st;
    ++fake_cuda().streams;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    if (!stream->waiting.empty()) misuse("a stream is destroyed with work on it");
    delete stream;
    --fake_cuda().streams;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (forbidden("waiting during a capture")) return cudaErrorStreamCaptureUnsupported;
    finish(known(stream));
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
    if (handle == cudaStreamLegacy) return cudaErrorStreamCaptureUnsupported;
    if (mode != cudaStreamCaptureModeThreadLocal) misuse("a capture that stops other threads");
    if (!handle->waiting.empty()) misuse("a capture behind work that is not done");
    handle->recording = new CUgraph_st;
    handle->broken = false;
    ++fake_cuda().graphs;
    capturing = handle;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
    capturing = nullptr;
    *graph = handle->recording;
    handle->recording = nullptr;
    if (!handle->broken) return cudaSuccess;
    cudaGraphDestroy(*graph);
    *graph = nullptr;
    return cudaErrorStreamCaptureInvalidated;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
    const std::size_t all = graph->works.size();
    if (nodes != nullptr) {
        for (std::size_t i = 0; i < all; ++i) nodes[i] = reinterpret_cast<cudaGraphNode_t>(graph);
    }
    *count = all;
    return cudaSuccess;
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
    const auto* graph = reinterpret_cast<const CUgraph_st*>(node);
    *type = graph->host_nodes ? cudaGraphNodeTypeHost : cudaGraphNodeTypeKernel;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph,
                                          unsigned long long) {
    *exec = new CUgraphExec_st{graph->works};
    ++fake_cuda().graphs;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    --fake_cuda().graphs;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    --fake_cuda().graphs;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    ++fake_cuda().graph_launches;
    return enqueue(stream, [exec] {
        for (const Work& work : exec->works) work();
    });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
    *event = new CUevent_st;
    ++fake_cuda().events;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    --fake_cuda().events;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return enqueue(stream, [event] { event->time = the_time += 1000; });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
    if (begin->time < 0 || end->time < 0) return cudaErrorNotReady;
    *milliseconds = end->time - begin->time;
    return cudaSuccess;
}

}  // extern "C"
