#include "files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "sha256.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

constexpr std::size_t chunk = std::size_t{1} << 20;  // bytes read at a time

[[noreturn]] void fail(int error, const std::string& path) {
    throw std::system_error(error, std::generic_category(), quote(path));
}

/// What is no plain file, in the words of the Python runtime.
const char* kind_of(mode_t mode) {
    switch (mode & S_IFMT) {
        case S_IFDIR: return "a folder";
        case S_IFIFO: return "a FIFO";
        case S_IFCHR:
        case S_IFBLK: return "a device";
        case S_IFSOCK: return "a socket";
        default: return "something else";
    }
}

void check_regular(const struct stat& info, const std::string& path) {
    if (S_ISREG(info.st_mode)) return;
    throw std::system_error(EINVAL, std::generic_category(),
                            quote(path) + " is " + kind_of(info.st_mode) +
                                ", expected a regular file");
}

// To hold a folder takes no right to list it, where the system knows the difference.
#ifdef O_PATH
constexpr int hold = O_PATH;
#else
constexpr int hold = O_RDONLY;
#endif

/// What lies at a path that is counted from a folder, links followed; nothing where nothing does.
std::optional<struct stat> status_of(int folder, const std::string& path) {
    struct stat info {};
    if (fstatat(folder, path.c_str(), &info, 0) == 0) return info;
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return std::nullopt;
    fail(errno, path);
}

Identity identity_of(const struct stat& info) {
#ifdef __APPLE__
    const struct timespec& modified = info.st_mtimespec;
#else
    const struct timespec& modified = info.st_mtim;
#endif
    return {static_cast<std::uint64_t>(info.st_dev), static_cast<std::uint64_t>(info.st_ino),
            static_cast<std::uint64_t>(info.st_size), static_cast<std::int64_t>(modified.tv_sec),
            static_cast<std::int64_t>(modified.tv_nsec)};
}

}  // namespace

File::File(const std::string& path) : File(AT_FDCWD, path) {}

File::File(int folder, const std::string& path) {
    struct stat info {};
    if (fstatat(folder, path.c_str(), &info, 0) != 0) fail(errno, path);
    check_regular(info, path);  // before it is opened: some devices act on that
    // A FIFO that takes the file's place in between is not waited for.
    descriptor_ = openat(folder, path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) fail(errno, path);
    try {
        if (fstat(descriptor_, &info) != 0) fail(errno, path);
        check_regular(info, path);
    } catch (...) {
        close(descriptor_);
        throw;
    }
    identity_ = identity_of(info);
}

File::File(File&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), identity_(other.identity_) {}

File::~File() {
    if (descriptor_ >= 0) close(descriptor_);
}

std::size_t File::read(void* to, std::size_t count) const {
    for (;;) {
        const ssize_t found = ::read(descriptor_, to, count);
        if (found >= 0) return static_cast<std::size_t>(found);
        if (errno != EINTR) throw std::system_error(errno, std::generic_category());
    }
}

Folder::Folder(const std::string& path)
    : descriptor_(open(path.c_str(), hold | O_DIRECTORY | O_CLOEXEC)) {
    if (descriptor_ < 0) fail(errno, path);
}

Folder::~Folder() { close(descriptor_); }

bool Folder::is_at(const std::string& path) const {
    struct stat held {};
    struct stat named {};
    return fstat(descriptor_, &held) == 0 && stat(path.c_str(), &named) == 0 &&
           held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

std::optional<File> Folder::find(const std::string& path) const {
    const auto info = status_of(descriptor_, path);
    if (!info || !S_ISREG(info->st_mode)) return std::nullopt;
    try {
        return File(descriptor_, path);
    } catch (const std::system_error& error) {
        if (error.code() == std::errc::no_such_file_or_directory) return std::nullopt;  // by now
        throw;
    }
}

bool is_folder(const std::string& path) {
    const auto info = status_of(AT_FDCWD, path);
    return info && S_ISDIR(info->st_mode);
}

std::string read_text(const File& file, std::size_t most) {
    const std::size_t wanted = std::min(most, file.size());
    std::string text;
    while (text.size() < wanted) {
        const std::size_t begin = text.size();
        text.resize(begin + std::min(chunk, wanted - begin));
        const std::size_t found = file.read(text.data() + begin, text.size() - begin);
        text.resize(begin + found);
        if (found == 0) break;
    }
    return text;
}

std::string file_sha256(const File& file) {
    Sha256 digest;
    std::vector<std::uint8_t> buffer(chunk);
    while (const std::size_t found = file.read(buffer.data(), buffer.size())) {
        digest.add(buffer.data(), found);
    }
    return digest.hex_digest();
}

}  // namespace keepstep::internal
