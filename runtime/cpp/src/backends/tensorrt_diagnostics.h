// How TensorRT-RTX and TensorRT speak: their types, and why an engine is refused.
//
// Nothing here needs the libraries.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "ordered_map.h"
#include "plan.h"

namespace keepstep::internal {

/// The plan's name of a TensorRT data type, given as its number; TensorRT's own name in small
/// letters for what plans do not know.
std::string tensorrt_dtype(std::int32_t type);

/// The bits with which TensorRT-RTX says why an engine cannot run, in their order.
inline constexpr std::array<const char*, 7> invalidity_bits = {
    "VERSION_MISMATCH",        "UNSUPPORTED_CC",   "OLD_CUDA_DRIVER", "OLD_CUDA_RUNTIME",
    "INSUFFICIENT_GPU_MEMORY", "MALFORMED_ENGINE", "CUDA_ERROR"};

/// Why an engine does not run here: the library's diagnostics, its words, and what to do.
/// `diagnostics` has the bits of `invalidity_bits`; 0 where the library gives none.
std::string refusal(std::uint64_t diagnostics, const std::string& gpu, const std::string& said);

/// How the tensors of an engine differ from those that the plan binds; empty: not at all.
std::string interface_fault(const OrderedMap<Type>& expected, const OrderedMap<Type>& found);

/// A version as it is written, such as "1.7.1", from the library's number for it.
std::string version_text(std::int32_t version);

/// Why a library cannot be used by what was compiled for another; empty: it can.
///
/// Versions add functions behind those that there are, so a newer library of the same first number
/// will do. An older one has others in their place: to call it would be a jump to anywhere.
std::string version_fault(std::int32_t library, std::int32_t oldest);

/// The last errors that a library has told. Any thread may use it.
class ToldErrors {
  public:
    /// Keeps the newest two, each as one readable line.
    void add(std::string_view message);
    void clear();
    /// Them, or "no reason was given".
    std::string text() const;

  private:
    mutable std::mutex mutex_;
    std::deque<std::string> last_;
};

}  // namespace keepstep::internal
