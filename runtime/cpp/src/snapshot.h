// A folder as it was when it was opened: what is read from it later is that, or nothing.
//
// A bundle is read bit by bit, and an export may exchange the whole folder in between. So the
// folder itself is held and not its name, and every file must be the very one that was looked at
// first.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "files.h"

namespace keepstep::internal {

/// A folder, and the files that were found in it. Any thread may read when all are known.
class Snapshot {
  public:
    /// `name` is the folder's, as it was given. Throws a `std::system_error`.
    explicit Snapshot(const std::string& name) : name_(name), folder_(name) {}

    /// Whether the name still stands for this folder.
    bool is_in_place() const { return folder_.is_at(name_); }

    /// Opens a file that is then known; nothing where there is no plain file. Throws a
    /// `std::system_error` where it cannot be opened.
    std::optional<File> note(const std::string& path);

    /// Opens a file that is known. Throws a bundle error for another one in its place.
    File open(const std::string& path) const;

    /// Tells that a file is no longer the one that is known.
    [[noreturn]] void refuse(const std::string& path) const;

  private:
    std::string name_;
    Folder folder_;
    std::map<std::string, Identity> known_;
};

}  // namespace keepstep::internal
