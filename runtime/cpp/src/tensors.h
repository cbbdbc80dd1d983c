// Tensors in safetensors files, mapped and not copied.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "files.h"
#include "memory.h"
#include "plan.h"

namespace keepstep::internal {

/// A tensor as the header of its file describes it.
struct TensorEntry {
    Type type;  // foreign dtypes keep their own name
    std::size_t item_bytes = 1;
    std::size_t begin = 0;  // in the file
    std::size_t bytes = 0;
};

/// The tensors of a safetensors file, by name, each within the file; `where` names it in messages.
/// Throws a bundle error (rule 10) when these bytes are no such file.
std::map<std::string, TensorEntry> tensor_entries(std::string_view file, const std::string& where);

/// One safetensors file, its whole header checked. Any thread may use it.
class TensorFile {
  public:
    /// Maps a file; `where` names it in messages. Throws a bundle error (rule 10) when it is no
    /// safetensors file, and a `std::system_error` when it cannot be read.
    TensorFile(const File& file, const std::string& where);

    /// The names of its tensors, sorted.
    std::vector<std::string> names() const;

    /// The type of a tensor; nothing when there is no such one.
    std::optional<Type> type(const std::string& name) const;

    /// The first byte of a tensor that there is, aligned for its elements.
    const std::byte* data(const std::string& name) const;

  private:
    Pages pages_;
    std::map<std::string, TensorEntry> entries_;
    // Copies of those that do not lie as their elements need it: from another writer than ours.
    mutable std::mutex copying_;
    mutable std::map<std::string, std::unique_ptr<std::byte[]>> copies_;
};

}  // namespace keepstep::internal
