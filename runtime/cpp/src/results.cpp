#include "results.h"

#include "floats.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

/// Where an output can be read by the host; null where it cannot.
const void* in_host(const Slot& slot, Session& session, Span<MutableTensor> results) {
    for (const MutableTensor& result : results) {
        if (result.name == slot.type.name && result.device == Device::host) return result.data;
    }
    return session.device() == Device::host ? session.memory(slot.value) : nullptr;
}

}  // namespace

BadOutput bad_output(const Program& program, Session& session, Span<MutableTensor> results) {
    for (const Slot& slot : program.slots) {
        if (slot.kind != Slot::Kind::output || !is_float(slot.type.dtype)) continue;
        const void* data = in_host(slot, session, results);
        if (data == nullptr) continue;
        const std::size_t bad = count_not_finite(slot.type.dtype, data, slot.type.bytes);
        if (bad != 0) return {&slot, bad};
    }
    return {};
}

std::string bad_call(const Program& program, Session& session,
                     const std::vector<std::size_t>& launches,
                     const std::vector<keepstep::Call>& calls) {
    std::vector<std::byte> copy;
    for (const std::size_t call : launches) {
        session.launch(call);
        session.wait();
        for (const Written& written : program.written[call]) {
            const std::byte* memory = session.memory(written.value);
            if (memory == nullptr) continue;  // of the backend that runs nothing
            copy.resize(written.bytes);
            session.read({written.tensor, written.dtype, {}, copy.data(), copy.size()},
                         memory + written.begin);
            session.finish(true);
            if (count_not_finite(written.dtype, copy.data(), copy.size()) == 0) continue;
            return "the first stage to give such numbers is " + quote(calls[call].stage) +
                   " (calls[" + std::to_string(call) + "], " + quote(written.tensor) + ")";
        }
    }
    return "played once more, no stage gave such numbers";
}

}  // namespace keepstep::internal
