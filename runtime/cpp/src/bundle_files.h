// Whether a bundle's files are those that bundle.json lists: rules 3 to 7 as far as it tells.
#pragma once

#include <string>

#include "plan.h"
#include "snapshot.h"

namespace keepstep::internal {

/// Reads bundle.json. `folder` is as it was given, `root` its real path.
/// Throws a bundle error (rules 0 to 3) and `std::system_error`.
Manifest read_manifest(Snapshot& snapshot, const std::string& folder, const std::string& root);

/// Checks every path, file and name of a manifest; all files are known then. Throws as
/// `read_manifest` does.
void check_manifest(Snapshot& snapshot, const std::string& root, const Manifest& manifest,
                    bool verify_hashes);

/// The file that `path` means, symbolic links followed, if it lies in the bundle (rule 3).
std::string contained(const std::string& root, const std::string& path, const std::string& place);

/// Rule 3 for one path, its links too.
void check_path(const std::string& root, const std::string& path, const std::string& place);

}  // namespace keepstep::internal
