#include "target.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <random>
#include <system_error>

#include "failure.h"

namespace keepstep::tool {
namespace {

namespace fs = std::filesystem;

/// The last part of a path from its last dot on, in small letters.
std::string ending_of(const fs::path& path) {
    std::string ending = path.extension().string();
    std::transform(ending.begin(), ending.end(), ending.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    return ending;
}

[[noreturn]] void cannot_be_written(const std::string& path, int error) {
    throw Failure{path + ": cannot be written: " + std::generic_category().message(error) +
                  "; nothing was left behind: free some space or choose another place, and run "
                  "again"};
}

/// A name beside a file that nobody knows beforehand: in a folder of others it could be a link.
std::string part_beside(const fs::path& place) {
    std::random_device random;
    const std::uint64_t token = std::uint64_t{random()} << 32 | random();
    char name[48];
    std::snprintf(name, sizeof name, ".keepstep-%016llx.part",
                  static_cast<unsigned long long>(token));
    return (place.parent_path() / name).string();
}

/// A new and empty file, open for writing; -1 with `errno` where there can be none.
int created(const std::string& part) {
    return open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

}  // namespace

void check_target(const std::string& path, const std::string& ending) {
    std::error_code unknown;
    const fs::path place(path);
    const fs::path folder = place.has_parent_path() ? place.parent_path() : fs::path(".");
    if (fs::is_directory(place, unknown)) {
        throw Failure{path + ": is a folder: give the name of a file to write"};
    }
    if (fs::exists(place, unknown) && !fs::is_regular_file(place, unknown)) {
        throw Failure{path + ": is there and no file: give the name of a file to write"};
    }
    if (!fs::is_directory(folder, unknown)) {
        throw Failure{path + ": there is no folder " + folder.string() +
                      ": make it, or choose another"};
    }
    if (ending_of(place) != ending) {
        throw Failure{path + ": expected a name that ends in " + ending +
                      ": that is what is written"};
    }
    // The one way to know: a filesystem may be read-only.
    const std::string part = part_beside(place);
    const int file = created(part);
    if (file < 0) {
        throw Failure{path + ": cannot be written: " + std::generic_category().message(errno) +
                      ": choose another place"};
    }
    close(file);
    std::remove(part.c_str());
}

PartFiles::~PartFiles() {
    for (const auto& [part, _] : files_) std::remove(part.c_str());
}

void PartFiles::write(const std::string& path, std::string_view content) {
    const std::string part = part_beside(path);
    const int descriptor = created(part);
    if (descriptor < 0) cannot_be_written(path, errno);
    files_.emplace_back(part, path);
    std::FILE* file = fdopen(descriptor, "wb");
    if (file == nullptr) {
        const int error = errno;
        close(descriptor);
        cannot_be_written(path, error);
    }
    const bool whole = std::fwrite(content.data(), 1, content.size(), file) == content.size();
    const int error = whole ? 0 : errno;
    const bool closed = std::fclose(file) == 0;  // what is left is written here, and may not fit
    if (!whole || !closed) cannot_be_written(path, whole ? errno : error);
}

void PartFiles::publish() {
    while (!files_.empty()) {
        const auto& [part, place] = files_.back();
        if (std::rename(part.c_str(), place.c_str()) != 0) {
            throw Failure{place + ": cannot be put in its place: " +
                          std::generic_category().message(errno) +
                          "; choose another place, and run again"};
        }
        files_.pop_back();
    }
}

}  // namespace keepstep::tool
