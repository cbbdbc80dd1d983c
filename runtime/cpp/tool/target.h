// Files that are written whole or not at all.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keepstep::tool {

/// Refuses a file that cannot be written, before any work is done.
void check_target(const std::string& path, const std::string& ending);

/// Files on their way: each lies beside its place until all are whole, and is then renamed.
class PartFiles {
  public:
    PartFiles() = default;
    PartFiles(const PartFiles&) = delete;
    PartFiles& operator=(const PartFiles&) = delete;
    /// Removes what was not published.
    ~PartFiles();

    void write(const std::string& path, std::string_view content);
    /// Puts every file in its place.
    void publish();

  private:
    std::vector<std::pair<std::string, std::string>> files_;  // (part, place)
};

}  // namespace keepstep::tool
