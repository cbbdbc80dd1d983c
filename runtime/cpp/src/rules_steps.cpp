#include "rules_steps.h"

#include <algorithm>

#include "quoting.h"

namespace keepstep::internal {
namespace {

constexpr std::array<std::string_view, 3> kinds_of_format_1 = {"full", "shallow", "skip"};
constexpr std::size_t longest_label = 200;  // characters

/// How many characters a text of UTF-8 has, and whether one of them is a control character.
struct Characters {
    explicit Characters(const std::string& text) {
        unsigned char before = 0;
        for (const char c : text) {
            const auto byte = static_cast<unsigned char>(c);
            count += (byte & 0xC0) != 0x80 ? 1 : 0;
            // U+0000 to U+001F, U+007F, and U+0080 to U+009F, which take two bytes.
            const bool of_two_bytes = before == 0xC2 && byte < 0xA0;
            has_control = has_control || byte < 0x20 || byte == 0x7F || of_two_bytes;
            before = byte;
        }
    }

    std::size_t count = 0;
    bool has_control = false;
};

Finding label_fault(const Plan& plan, const Step& step) {
    if (plan.version == 1) {
        const auto& known = kinds_of_format_1;
        if (std::find(known.begin(), known.end(), step.label) != known.end()) return std::nullopt;
        return ".kind: " + quote(step.label) + ", known: " + quote_names({known.begin(), known.end()});
    }
    const Characters characters(step.label);
    if (characters.count < 1 || characters.count > longest_label) {
        return ".label: " + std::to_string(characters.count) + " characters, expected 1 to " +
               std::to_string(longest_label);
    }
    if (!characters.has_control) return std::nullopt;
    return ".label: " + quote(step.label) + " has control characters, expected none";
}

/// Every step is a call of the sampler, and in format 1 a launch unless it is skipped.
Finding calls_fault(const Plan& plan, const std::vector<std::size_t>& calls_of) {
    for (std::size_t s = 0; s < plan.steps.size(); ++s) {
        const std::size_t expected = plan.steps[s].label == "skip" ? 0 : 1;
        if (calls_of[s] == expected) continue;
        return "steps[" + std::to_string(s) + "]: calls of kind " + plan.steps[s].label +
               ": expected " + std::to_string(expected) + ", found " + std::to_string(calls_of[s]);
    }
    return std::nullopt;
}

}  // namespace

Finding rule_19_steps(const Plan& plan) {
    const auto step_count = static_cast<std::int64_t>(plan.steps.size());
    for (std::size_t s = 0; s < plan.steps.size(); ++s) {
        const Step& step = plan.steps[s];
        const std::string place = "steps[" + std::to_string(s) + "]";
        if (const Finding fault = label_fault(plan, step)) return place + *fault;
        if (step.kept && *step.kept < 1) {
            return place + ".kept: " + std::to_string(*step.kept) +
                   ", expected null or at least 1";
        }
    }
    std::vector<std::size_t> calls_of(plan.steps.size());
    std::int64_t last = 0;
    for (std::size_t i = 0; i < plan.calls.size(); ++i) {
        if (!plan.calls[i].step) continue;
        const std::int64_t step = *plan.calls[i].step;
        const std::string place =
            "calls[" + std::to_string(i) + "].step: " + std::to_string(step);
        if (step >= step_count) {
            return place + ", but there are " + std::to_string(step_count) + " steps";
        }
        if (step < last) return place + " after " + std::to_string(last) + "; steps do not fall";
        last = step;
        ++calls_of[static_cast<std::size_t>(step)];
    }
    return plan.version == 1 ? calls_fault(plan, calls_of) : std::nullopt;
}

}  // namespace keepstep::internal
