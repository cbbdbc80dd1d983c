#include "backends/tensorrt_diagnostics.h"

#include <algorithm>
#include <utility>

#include "quoting.h"

namespace keepstep::internal {
namespace {

// By the number of nvinfer1::DataType.
constexpr std::array<const char*, 12> dtypes = {"float32", "float16", "int8",     "int32",
                                                "bool",    "uint8",   "fp8",      "bfloat16",
                                                "int64",   "int4",    "fp4",      "e8m0"};

constexpr std::size_t kept_errors = 2;

struct Way {
    const char* bit;
    const char* way;
};

constexpr const char* another = "play with another backend";
constexpr const char* again = "export the bundle again with the version that is installed here";
constexpr const char* driver = "install a newer driver";
constexpr Way ways[] = {
    {"UNSUPPORTED_CC", "it has nothing for this GPU: play with another backend"},
    {"VERSION_MISMATCH", again},
    {"MALFORMED_ENGINE", again},
    {"OLD_CUDA_DRIVER", driver},
    {"OLD_CUDA_RUNTIME", driver},
    {"INSUFFICIENT_GPU_MEMORY", "close what else uses the GPU, or export smaller"},
};

std::vector<std::string> without(const OrderedMap<Type>& names, const OrderedMap<Type>& others) {
    std::vector<std::string> found;
    for (const auto& [name, _] : names) {
        if (!others.contains(name)) found.push_back(name);
    }
    return found;
}

}  // namespace

std::string tensorrt_dtype(std::int32_t type) {
    const bool is_known = type >= 0 && static_cast<std::size_t>(type) < dtypes.size();
    return is_known ? dtypes[static_cast<std::size_t>(type)] : "type " + std::to_string(type);
}

std::string refusal(std::uint64_t diagnostics, const std::string& gpu, const std::string& said) {
    std::string reasons;
    const char* way = nullptr;
    for (std::size_t bit = 0; bit < invalidity_bits.size(); ++bit) {
        if ((diagnostics >> bit & 1) == 0) continue;
        const std::string_view name = invalidity_bits[bit];
        reasons += std::string(name) + "; ";
        const auto* found = std::find_if(std::begin(ways), std::end(ways),
                                         [&](const Way& known) { return name == known.bit; });
        if (way == nullptr && found != std::end(ways)) way = found->way;
    }
    return "does not run on " + gpu + ": " + reasons + said + "; " +
           (way == nullptr ? another : way);
}

std::string interface_fault(const OrderedMap<Type>& expected, const OrderedMap<Type>& found) {
    if (const auto missing = without(expected, found); !missing.empty()) {
        return "the engine has no " + quote_names(missing) + ", which the plan binds";
    }
    if (const auto extra = without(found, expected); !extra.empty()) {
        return "the engine has " + quote_names(extra) + ", which the plan does not know";
    }
    for (const auto& [name, type] : expected) {
        if (found.at(name) == type) continue;
        return quote(name) + ": the plan has " + type_text(type) + ", the engine " +
               type_text(found.at(name));
    }
    return "";
}

std::string version_text(std::int32_t version) {
    return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
           std::to_string(version % 100);
}

std::string version_fault(std::int32_t library, std::int32_t oldest) {
    const std::int32_t major = oldest / 10000;
    if (library / 10000 == major && library >= oldest) return "";
    return "is installed, and keepstep was compiled for " + version_text(oldest) +
           " or a later " + std::to_string(major) +
           ".x: install one, or compile keepstep with the headers of this one";
}

void ToldErrors::add(std::string_view message) {
    std::string line = sanitize(message);
    const std::lock_guard<std::mutex> lock(mutex_);
    last_.push_back(std::move(line));
    if (last_.size() > kept_errors) last_.pop_front();
}

void ToldErrors::clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    last_.clear();
}

std::string ToldErrors::text() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (last_.empty()) return "no reason was given";
    return last_.size() == 1 ? last_[0] : last_[0] + "; " + last_[1];
}

}  // namespace keepstep::internal
