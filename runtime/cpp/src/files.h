// Plain files, opened so that nothing in their place can hang the reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace keepstep::internal {

/// What tells a file, or a folder, from another one in its place.
///
/// The time of its last change of status is no part of it: that changes with every new link, and
/// the exporter's cache shares files by links.
struct Identity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::uint64_t size = 0;
    std::int64_t modified_seconds = 0;
    std::int64_t modified_nanoseconds = 0;

    friend bool operator==(const Identity& a, const Identity& b) noexcept {
        return a.device == b.device && a.inode == b.inode && a.size == b.size &&
               a.modified_seconds == b.modified_seconds &&
               a.modified_nanoseconds == b.modified_nanoseconds;
    }
};

/// A plain file that is open for reading. Throws a `std::system_error` for anything else.
class File {
  public:
    explicit File(const std::string& path);
    /// The same; its path is counted from a folder that is open.
    File(int folder, const std::string& path);
    File(File&& other) noexcept;
    File& operator=(File&&) = delete;
    ~File();

    int descriptor() const noexcept { return descriptor_; }
    std::size_t size() const noexcept { return static_cast<std::size_t>(identity_.size); }
    const Identity& identity() const noexcept { return identity_; }
    /// Reads up to `count` bytes; 0 at the end. Throws a `std::system_error`.
    std::size_t read(void* to, std::size_t count) const;

  private:
    int descriptor_ = -1;
    Identity identity_;
};

/// A folder that is held, whatever its name stands for later.
class Folder {
  public:
    /// Throws a `std::system_error`.
    explicit Folder(const std::string& path);
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder();

    /// Whether `path` stands for this folder.
    bool is_at(const std::string& path) const;
    /// A plain file in it; nothing where there is none. Throws a `std::system_error` where it
    /// cannot be opened.
    std::optional<File> find(const std::string& path) const;

  private:
    int descriptor_;
};

/// Whether there is a folder. Throws a `std::system_error` where that cannot be found out.
bool is_folder(const std::string& path);
/// The first `most` bytes of a file. Throws a `std::system_error`.
std::string read_text(const File& file, std::size_t most);
/// The SHA-256 of a file that has not been read. Throws a `std::system_error`.
std::string file_sha256(const File& file);

}  // namespace keepstep::internal
