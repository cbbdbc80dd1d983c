// TensorRT-RTX or TensorRT played by the host, on `fake_cuda`: an engine is the name of a stage.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "plan.h"

namespace keepstep::tests {

/// How the fake behaves, and what it has seen.
struct FakeTensorRT {
    const internal::Plan* plan = nullptr;  // of the engines
    bool is_capturable = true;
    bool refuses_contexts = false;
    bool fails = false;  // to enqueue
    std::string host_tensor;           // that engines want in host memory
    std::string compiled = "kernels";  // what the cache of every engine holds once it has run

    std::size_t deserialised = 0;
    std::size_t contexts_made = 0;
    std::vector<std::string> caches_read;
    std::vector<std::string> misuse;  // what the library leaves undefined
    std::size_t left = 0;             // objects that have not been given back
};

FakeTensorRT& fake_tensorrt();

}  // namespace keepstep::tests
