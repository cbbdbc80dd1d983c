// The engines of tests/stages, which the Python runtime reads, too: the same verdict for each.
#include <doctest/doctest.h>

#include <algorithm>
#include <sstream>

#include "backends/onnx_structure.h"
#include "plan_json.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

const std::filesystem::path stages = KEEPSTEP_STAGES;

internal::Finding verdict(const std::string& file) {
    static const internal::Plan plan =
        internal::plan_from_json(plan_text("valid/toy.json"), "plans/toy.json");
    const internal::Stage& stage = plan.stages.at("full");
    return internal::rule_20_engine(file, stage, internal::weight_types(plan, stage));
}

std::vector<std::filesystem::path> files(const char* folder) {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(stages / folder)) {
        found.push_back(entry.path());
    }
    std::sort(found.begin(), found.end());
    return found;
}

}  // namespace

TEST_CASE("every right engine is accepted") {
    REQUIRE(files("valid").size() > 5);
    for (const auto& file : files("valid")) {
        const auto fault = verdict(read(file));
        CHECK_MESSAGE(!fault, file.filename().string(), ": ", fault.value_or(""));
    }
}

TEST_CASE("every bad engine is refused in its words") {
    std::istringstream lines(read(stages / "words.tsv"));
    std::size_t count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
        const std::size_t tab = line.find('\t');
        const std::string name = line.substr(0, tab);
        const std::string words = line.substr(tab + 1);
        const auto fault = verdict(read(stages / "bad" / (name + ".onnx")));
        CAPTURE(name);
        REQUIRE(fault);
        CAPTURE(*fault);
        CHECK(contains(*fault, words));
        CHECK(printable(*fault));
        CHECK(fault->size() < 1000);
    }
    CHECK(count == files("bad").size());
}

TEST_CASE("an engine cut anywhere is refused") {
    const std::string whole = read(stages / "valid/attention.onnx");
    REQUIRE(!verdict(whole));
    for (std::size_t length = 0; length < whole.size(); ++length) {
        // A copy of just these bytes, so that a sanitizer sees reads behind them.
        const std::vector<char> bytes(whole.begin(),
                                      whole.begin() + static_cast<std::ptrdiff_t>(length));
        REQUIRE_MESSAGE(verdict({bytes.begin(), bytes.end()}), "cut at ", length);
    }
}

TEST_CASE("more nodes than a load takes well are refused") {
    std::string node = "\x0A\x12" + std::string("\x0A\x05noise\x12\x01y\x22\x06" "Unused");
    node[1] = static_cast<char>(node.size() - 2);
    std::string nodes;
    for (int i = 0; i < (1 << 14) + 1; ++i) nodes += node;
    std::string length;
    for (std::size_t rest = nodes.size(); rest != 0; rest >>= 7) {
        length += static_cast<char>((rest & 0x7F) | (rest > 0x7F ? 0x80 : 0));
    }
    const auto fault = verdict("\x3A" + length + nodes);
    REQUIRE(fault);
    CHECK(contains(*fault, "more than 16384 nodes"));
}

}  // namespace keepstep::tests
