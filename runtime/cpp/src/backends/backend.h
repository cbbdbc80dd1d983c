// Backends: what launches engines.
//
// A session holds all memory of one player, wherever that is.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "bundle_folder.h"
#include "plan.h"

namespace keepstep::internal {

/// One plan made ready to play: memory allocated, constants loaded, every call bound.
class Session {
  public:
    virtual ~Session() = default;

    /// Host memory of an input, feed or output, by its place in `Plan::values`.
    virtual std::byte* memory(std::size_t value) = 0;

    /// Runs one call of the plan to its end, without allocating. Throws a backend error when the
    /// engine fails.
    virtual void launch(std::size_t call) = 0;
};

/// The names of the backends that this build has.
const std::vector<std::string>& backend_names();

/// Loads `plan` for playing. Throws a backend error for a backend that cannot.
std::unique_ptr<Session> open_session(BundleFolder& bundle, const Plan& plan,
                                      const std::string& backend);

}  // namespace keepstep::internal
