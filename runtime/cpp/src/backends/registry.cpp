#include <algorithm>

#include "backends/backend.h"
#include "backends/null.h"
#include "error.h"
#include "quoting.h"

#ifdef KEEPSTEP_ONNXRUNTIME
#include "backends/onnxruntime.h"
#endif
#ifdef KEEPSTEP_TENSORRT
#include "backends/tensorrt.h"
#endif

namespace keepstep::internal {
namespace {

using Opened = std::unique_ptr<Session>;

struct Backend {
    const char* name;
    const char* way;  // to a build that has it
    Opened (*open)(BundleFolder&, const Plan&, const PlayerOptions&);  // null: not in this build
};

#ifdef KEEPSTEP_ONNXRUNTIME
constexpr auto open_onnxruntime = OnnxRuntimeSession::open;
#else
constexpr decltype(Backend::open) open_onnxruntime = nullptr;
#endif

// A build has one of the two: both libraries call their functions the same.
#ifdef KEEPSTEP_TENSORRT
constexpr auto open_tensorrt = TensorRTSession::open;
#else
constexpr decltype(Backend::open) open_tensorrt = nullptr;
#endif
#ifdef KEEPSTEP_TENSORRT_RTX
constexpr bool is_rtx = true;
#else
constexpr bool is_rtx = false;
#endif

constexpr Backend backends[] = {
    {"null", "", [](BundleFolder&, const Plan& plan, const PlayerOptions&) -> Opened {
         return std::make_unique<NullSession>(plan);
     }},
    {"onnxruntime", "configure it with -DONNXRUNTIME_ROOT=", open_onnxruntime},
    {"tensorrt-rtx", "configure it with TensorRT-RTX, -DKEEPSTEP_TENSORRT_INCLUDE=",
     is_rtx ? open_tensorrt : nullptr},
    {"tensorrt", "configure it with TensorRT, -DKEEPSTEP_TENSORRT_INCLUDE=",
     is_rtx ? nullptr : open_tensorrt},
};

std::vector<std::string> names_in_build() {
    std::vector<std::string> names;
    for (const Backend& backend : backends) {
        if (backend.open != nullptr) names.emplace_back(backend.name);
    }
    return names;
}

}  // namespace

const std::vector<std::string>& backend_names() {
    static const std::vector<std::string> names = names_in_build();
    return names;
}

std::unique_ptr<Session> open_session(BundleFolder& bundle, const Plan& plan,
                                      const std::string& backend, const PlayerOptions& options) {
    const auto found = std::find_if(std::begin(backends), std::end(backends),
                                    [&](const Backend& known) { return backend == known.name; });
    if (found == std::end(backends)) {
        throw_backend_error("there is no backend " + quote(backend) +
                            did_you_mean(backend, backend_names()) +
                            "; this build has: " + quote_names(backend_names()));
    }
    if (found->open == nullptr) {
        throw_backend_error("backend " + quote(backend) +
                            " is not in this build, which has: " + quote_names(backend_names()) +
                            "; " + found->way);
    }
    return found->open(bundle, plan, options);
}

}  // namespace keepstep::internal
