#include "paths.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <vector>

#include "quoting.h"

namespace keepstep::internal {
namespace {

constexpr int most_links = 40;  // as many as Linux follows

/// The parts between slashes, the last first: a stack of what is still to be walked.
std::vector<std::string> stacked(std::string_view path) {
    std::vector<std::string> parts;
    for (std::size_t end = path.size();;) {
        const std::size_t slash = path.substr(0, end).rfind('/');
        const std::size_t begin = slash == path.npos ? 0 : slash + 1;
        parts.emplace_back(path.substr(begin, end - begin));
        if (slash == path.npos) return parts;
        end = slash;
    }
}

/// Where a symbolic link points; nothing for what is none.
std::optional<std::string> link_target(const std::string& path) {
    struct stat info {};
    if (lstat(path.c_str(), &info) != 0 || !S_ISLNK(info.st_mode)) return std::nullopt;
    char target[PATH_MAX];
    const ssize_t length = readlink(path.c_str(), target, sizeof target);
    if (length < 0) return std::nullopt;
    return std::string(target, static_cast<std::size_t>(length));
}

std::string working_folder() {
    char folder[PATH_MAX];
    return getcwd(folder, sizeof folder) == nullptr ? "/" : folder;
}

}  // namespace

std::optional<std::string> path_fault(std::string_view path) {
    if (path.find('\0') != path.npos) return "contains a NUL";
    if (path.find('\\') != path.npos) return "contains a backslash; use '/'";
    if (path.substr(0, 1) == "/") return "is absolute; paths are relative to the bundle";
    if (path.size() > 1 && path[1] == ':' && std::isalpha(static_cast<unsigned char>(path[0]))) {
        return "has a drive letter; paths are relative to the bundle";
    }
    for (std::size_t begin = 0, end = 0; begin <= path.size(); begin = end + 1) {
        end = std::min(path.find('/', begin), path.size());
        const std::string_view part = path.substr(begin, end - begin);
        if (part.empty() || part == "." || part == "..") {
            return "has the part " + quote(part) + "; paths go straight down from the bundle";
        }
    }
    return std::nullopt;
}

std::string real_path(const std::string& path) {
    if (path.size() >= PATH_MAX) return path;
    std::vector<std::string> left = stacked(path);
    std::string real;  // empty is the root
    if (path.substr(0, 1) != "/") real = real_path(working_folder());
    if (real == "/") real.clear();
    int links = 0;
    while (!left.empty()) {
        const std::string part = std::move(left.back());
        left.pop_back();
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            real.erase(real.empty() ? 0 : real.rfind('/'));
            continue;
        }
        const std::string next = real + "/" + part;
        const std::optional<std::string> target = link_target(next);
        if (!target || ++links > most_links) {
            real = next;
            continue;
        }
        if (target->substr(0, 1) == "/") real.clear();
        for (std::string& step : stacked(*target)) left.push_back(std::move(step));
    }
    return real.empty() ? "/" : real;
}

bool is_within(std::string_view path, std::string_view folder) {
    if (folder == "/" || path == folder) return true;
    return path.size() > folder.size() && path.substr(0, folder.size()) == folder &&
           path[folder.size()] == '/';
}

}  // namespace keepstep::internal
