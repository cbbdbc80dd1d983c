#include "backends/onnxruntime_api.h"

#include "error.h"
#include "quoting.h"

namespace keepstep::internal {

const OrtApi& ort() {
    static const OrtApi* api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (api == nullptr) {
        throw_backend_error(ort_title() + " is older than the headers that keepstep was built " +
                            "with, those of 1." + std::to_string(ORT_API_VERSION) +
                            ": ship that version or a newer one beside the program");
    }
    return *api;
}

std::string ort_title() {
    return std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString();
}

std::optional<std::string> ort_fault(OrtStatus* status) {
    if (status == nullptr) return std::nullopt;
    const OrtOwned<OrtStatus, &OrtApi::ReleaseStatus> owned(status);
    return sanitize(ort().GetErrorMessage(status));
}

std::optional<std::string> memory_fault(const std::string& fault) {
    for (const char* words :
         {"bad_alloc", "bad allocation", "Failed to allocate memory", "out of memory"}) {
        if (fault.find(words) == fault.npos) continue;
        return "there is too little memory: end other programs, close other players, or export at "
               "a smaller size or batch";
    }
    return std::nullopt;
}

}  // namespace keepstep::internal
