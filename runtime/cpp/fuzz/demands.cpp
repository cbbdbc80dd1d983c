#include "demands.h"

#include <cstdio>
#include <cstdlib>

#include "../tests/toy_bundle.h"

namespace keepstep::fuzz {
namespace {

// A dozen quoted names, twice, behind a place of three more: nothing that is quoted comes whole.
constexpr std::size_t longest_message = 4000;

}  // namespace

void demand(bool holds, const char* what, const std::string& found) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s %s\n", what, found.c_str());
    std::abort();
}

void demand_refusal(const Status& status, int first, int last) {
    const std::string& message = status.message();
    demand(status.code() == StatusCode::bundle_error, "refused as a bundle:", message);
    demand(first <= status.rule() && status.rule() <= last, "refused for such a rule:", message);
    demand(!message.empty() && message.size() <= longest_message, "a short message:", message);
    demand(tests::printable(message), "a readable message:", message);
}

}  // namespace keepstep::fuzz
