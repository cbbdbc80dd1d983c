// Backends: what launches engines.
//
// A session holds all memory of one player, wherever that is.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bundle_folder.h"
#include "keepstep/player.h"
#include "plan.h"

namespace keepstep::internal {

/// How long a run took: `seconds` as `play` plays it, and `calls`, each by itself.
struct Times {
    double seconds = 0;
    std::vector<double> calls;
};

/// One plan made ready to play: memory allocated, constants loaded, every call bound.
///
/// What a run goes through (all but `timed`) allocates nothing. Work is done in the order in which
/// it is asked for; what fails throws a backend error.
class Session {
  public:
    virtual ~Session() = default;

    /// Where the memory of values lies. Those of a CPU leave it, and copying, as they are here.
    virtual Device device() const { return Device::host; }

    /// Memory of a value that is no constant, by its place in `Plan::values`. The session that
    /// runs nothing has none of what no caller sees, and gives null.
    virtual std::byte* memory(std::size_t value) = 0;

    /// Copies a tensor of the caller's, of either device that can be, to memory of a value. Host
    /// memory may be changed when this returns.
    virtual void write(std::byte* value, const ConstTensor& tensor);

    /// Copies memory of a value to a tensor of the caller's. Host memory is written when `finish`
    /// returns.
    virtual void read(const MutableTensor& tensor, const std::byte* value);

    /// Starts one call of the plan.
    virtual void launch(std::size_t call) = 0;

    /// Launches these calls in order. A session that can hand over a whole loop does it here.
    virtual void play(const std::vector<std::size_t>& calls);

    /// Returns when all that was started is done.
    virtual void wait() {}

    /// Ends a run; `host` says whether a tensor of it lies in host memory. Where none does, what
    /// is left to do may go on behind it on a stream of the caller's.
    virtual void finish(bool host);

    /// What a person should know of how runs are played, such as why the loop is not one graph;
    /// empty where all is as it should be.
    virtual const std::string& note() const;

    /// Plays these calls and measures them; their outputs are then there to be read.
    ///
    /// A session that hands over a whole loop plays several times: as a whole, and call by call.
    /// `rewind` writes the inputs once more, because a run may overwrite what it has read.
    virtual Times timed(const std::vector<std::size_t>& calls,
                        const std::function<void()>& rewind);
};

/// The names of the backends that this build has.
const std::vector<std::string>& backend_names();

/// Loads `plan` for playing. Throws a backend error for a backend that cannot.
std::unique_ptr<Session> open_session(BundleFolder& bundle, const Plan& plan,
                                      const std::string& backend, const PlayerOptions& options);

/// The path in the bundle of every stage's engine of a kind, by the stage's place in
/// `Plan::stages`. Throws a backend error when a stage has none.
std::vector<std::string> engine_paths(const BundleFolder& bundle, const Plan& plan,
                                      const std::string& kind);

}  // namespace keepstep::internal
