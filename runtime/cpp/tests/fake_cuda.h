// CUDA's runtime played by the host, as strictly as it may behave.
//
// What is launched on a stream is done when it is waited for and not before: whoever forgets to
// wait, or gives memory back too early, finds the old bytes. A stream that is captured records.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace keepstep::tests {

/// How the fake behaves, and what it has seen.
struct FakeCuda {
    cudaError_t device_error = cudaSuccess;  // what asking for GPUs answers
    int device = 0;                          // the current one
    bool host_nodes = false;                 // launches are recorded as calls of the host
    bool is_idle = false;                    // nothing is done, so that nothing is allocated for it
    cudaError_t launch_error = cudaSuccess;  // what `fake_launch` answers during a capture

    std::size_t graph_launches = 0;
    std::vector<int> devices;         // the current one at every launch
    std::vector<std::string> misuse;  // what CUDA forbids or leaves undefined
    // What has not been given back.
    std::size_t memories = 0;
    std::size_t streams = 0;
    std::size_t graphs = 0;
    std::size_t events = 0;

    /// How much of it there is.
    std::size_t left() const { return memories + streams + graphs + events; }
};

FakeCuda& fake_cuda();

/// Launches host code in the place of a kernel.
cudaError_t fake_launch(cudaStream_t stream, std::function<void()> kernel);

}  // namespace keepstep::tests
