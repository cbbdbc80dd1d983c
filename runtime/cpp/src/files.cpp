#include "files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <vector>

#include "sha256.h"
#include "wording.h"

namespace keepstep::internal {
namespace {

constexpr std::size_t chunk = std::size_t{1} << 20;  // bytes read at a time

[[noreturn]] void fail(int error, const std::string& path) {
    throw std::system_error(error, std::generic_category(), shown(path));
}

/// What lies at a path, links followed; nothing where nothing does.
std::optional<struct stat> status_of(const std::string& path) {
    struct stat info {};
    if (stat(path.c_str(), &info) == 0) return info;
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return std::nullopt;
    fail(errno, path);
}

}  // namespace

File::File(const std::string& path)
    // A pipe in the file's place is not waited for: it is no plain file.
    : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (descriptor_ < 0) fail(errno, path);
    struct stat info {};
    const int error = fstat(descriptor_, &info) != 0 ? errno : S_ISREG(info.st_mode) ? 0 : EINVAL;
    if (error != 0) {
        close(descriptor_);
        fail(error, path);
    }
    size_ = static_cast<std::size_t>(info.st_size);
}

File::~File() { close(descriptor_); }

std::size_t File::read(void* to, std::size_t count) const {
    for (;;) {
        const ssize_t found = ::read(descriptor_, to, count);
        if (found >= 0) return static_cast<std::size_t>(found);
        if (errno != EINTR) throw std::system_error(errno, std::generic_category());
    }
}

std::optional<std::uint64_t> file_size(const std::string& path) {
    const auto info = status_of(path);
    if (!info || !S_ISREG(info->st_mode)) return std::nullopt;
    return static_cast<std::uint64_t>(info->st_size);
}

bool is_folder(const std::string& path) {
    const auto info = status_of(path);
    return info && S_ISDIR(info->st_mode);
}

std::string read_text(const std::string& path, std::size_t most) {
    const File file(path);
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

std::string file_sha256(const std::string& path) {
    const File file(path);
    Sha256 digest;
    std::vector<std::uint8_t> buffer(chunk);
    while (const std::size_t found = file.read(buffer.data(), buffer.size())) {
        digest.add(buffer.data(), found);
    }
    return digest.hex_digest();
}

}  // namespace keepstep::internal
