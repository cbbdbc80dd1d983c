#include "backends/backend.h"
#include "backends/null.h"
#include "error.h"
#include "wording.h"

namespace keepstep::internal {

const std::vector<std::string>& backend_names() {
    static const std::vector<std::string> names = {"null"};
    return names;
}

std::unique_ptr<Session> open_session(BundleFolder&, const Plan& plan,
                                      const std::string& backend) {
    if (backend == "null") return std::make_unique<NullSession>(plan);
    throw_backend_error("there is no backend " + shown(backend) +
                        did_you_mean(backend, backend_names()) +
                        " in this build; it has: " + listed(backend_names()));
}

}  // namespace keepstep::internal
