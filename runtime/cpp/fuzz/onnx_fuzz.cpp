// Bytes as the engine of the toy plan's stage `full`: accepted, or refused in a readable line.
#include "../tests/toy_bundle.h"
#include "backends/onnx_structure.h"
#include "demands.h"
#include "plan_json.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace keepstep;
    static const internal::Plan plan =
        internal::plan_from_json(tests::plan_text("valid/toy.json"), "plans/toy.json");
    const internal::Stage& stage = plan.stages.at("full");
    const auto fault = internal::rule_20_engine({reinterpret_cast<const char*>(data), size}, stage,
                                                internal::weight_types(plan, stage));
    if (!fault) return 0;
    fuzz::demand(!fault->empty() && fault->size() < 1000, "a short message:", *fault);
    fuzz::demand(tests::printable(*fault), "a readable message:", *fault);
    return 0;
}
