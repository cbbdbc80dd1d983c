#include "kernel_cache_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <system_error>

#include "files.h"

namespace keepstep::internal {
namespace {

/// A name in the same folder that nobody else writes to: no other process, and no other thread.
std::string part_of(const std::string& path) {
    static std::atomic<unsigned> parts = 0;
    const std::size_t name = path.rfind('/') + 1;  // 0 where there is no folder
    return path.substr(0, name) + "." + path.substr(name) + "." + std::to_string(getpid()) + "-" +
           std::to_string(parts++) + ".part";
}

bool write_all(int file, const char* bytes, std::size_t size) {
    while (size > 0) {
        const ssize_t written = write(file, bytes, size);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        bytes += written;
        size -= static_cast<std::size_t>(written);
    }
    return true;
}

}  // namespace

std::string kept_bytes(const std::string& path) {
    try {
        return read_text(File(path), std::numeric_limits<std::size_t>::max());
    } catch (const std::system_error&) {
        return {};
    }
}

bool keep_bytes(const std::string& path, const void* bytes, std::size_t size) {
    const std::string part = part_of(path);
    const int file = open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) return false;
    const bool written = write_all(file, static_cast<const char*>(bytes), size);
    const bool closed = close(file) == 0;  // full disks are told of here, too
    if (written && closed && std::rename(part.c_str(), path.c_str()) == 0) return true;
    unlink(part.c_str());
    return false;
}

}  // namespace keepstep::internal
