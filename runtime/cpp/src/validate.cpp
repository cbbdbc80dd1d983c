#include "validate.h"

#include "error.h"
#include "rules_calls.h"
#include "rules_memory.h"
#include "rules_steps.h"

namespace keepstep::internal {

void check_plan(const Plan& plan, const Constants& constants, const std::string& where) {
    const auto rule_10 = [&](const Plan& checked) {
        return constants ? rule_10_constants(checked, constants) : std::nullopt;
    };
    const std::pair<int, std::function<Finding(const Plan&)>> rules[] = {
        {3, rule_3_paths},     {5, rule_5_names},
        {6, rule_6_enums},     {7, rule_7_sizes},
        {8, rule_8_fields},    {9, rule_9_offsets},
        {10, rule_10},         {11, rule_11_stages},
        {12, rule_12_bindings}, {13, rule_13_read_only_values},
        {14, rule_14_aliasing}, {15, rule_15_written_before_read},
        {16, rule_16_no_trace}, {17, rule_17_liveness},
        {18, rule_18_outputs},  {19, rule_19_steps},
    };
    for (const auto& [number, rule] : rules) {
        if (const Finding finding = rule(plan)) throw_bundle_error(number, where + ": " + *finding);
    }
}

}  // namespace keepstep::internal
