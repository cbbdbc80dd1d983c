// Plain files, opened so that nothing in their place can hang the reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace keepstep::internal {

/// A plain file that is open for reading. Throws a `std::system_error` for anything else.
class File {
  public:
    explicit File(const std::string& path);
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File();

    int descriptor() const noexcept { return descriptor_; }
    std::size_t size() const noexcept { return size_; }
    /// Reads up to `count` bytes; 0 at the end. Throws a `std::system_error`.
    std::size_t read(void* to, std::size_t count) const;

  private:
    int descriptor_ = -1;
    std::size_t size_ = 0;
};

/// The size of a plain file; nothing where there is none. Throws a `std::system_error` where that
/// cannot be found out.
std::optional<std::uint64_t> file_size(const std::string& path);
/// Whether there is a folder. Throws as `file_size` does.
bool is_folder(const std::string& path);
/// The first `most` bytes of a file. Throws a `std::system_error`.
std::string read_text(const std::string& path, std::size_t most);
/// The SHA-256 of a file. Throws a `std::system_error`.
std::string file_sha256(const std::string& path);

}  // namespace keepstep::internal
