#include "backends/backend.h"

#include <cstring>

#include "clock.h"
#include "error.h"
#include "quoting.h"

namespace keepstep::internal {

void Session::write(std::byte* value, const ConstTensor& tensor) {
    std::memmove(value, tensor.data, tensor.bytes);  // it may overlap: the player's own memory
}

void Session::read(const MutableTensor& tensor, const std::byte* value) {
    std::memmove(tensor.data, value, tensor.bytes);
}

void Session::play(const std::vector<std::size_t>& calls) {
    for (const std::size_t call : calls) launch(call);
}

void Session::finish(bool) { wait(); }

const std::string& Session::note() const {
    static const std::string nothing;
    return nothing;
}

Times Session::timed(const std::vector<std::size_t>& calls, const std::function<void()>&) {
    Times times;
    wait();
    const auto begin = Clock::now();
    auto last = begin;
    for (const std::size_t call : calls) {
        launch(call);
        wait();
        const auto now = Clock::now();
        times.calls.push_back(seconds_between(last, now));
        last = now;
    }
    times.seconds = seconds_between(begin, last);
    return times;
}

std::vector<std::string> engine_paths(const BundleFolder& bundle, const Plan& plan,
                                      const std::string& kind) {
    std::vector<std::string> paths;
    for (const auto& [name, stage] : plan.stages) {
        const std::string* path = stage.engines.find(kind);
        if (path == nullptr) {
            throw_backend_error("bundle " + escape(bundle.path()) + ", plan " + quote(plan.name) +
                                ": stage " + quote(name) + " has no engine for " + escape(kind) +
                                ", but for " + quote_names(stage.engines.names()) +
                                "; export again with --backend " + escape(kind) +
                                ", or play with one of those");
        }
        paths.push_back(*path);
    }
    return paths;
}

}  // namespace keepstep::internal
