// Paths inside a bundle: rule 3 of docs/plan-format.md.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace keepstep::internal {

/// What keeps `path` from being a plain relative path; nothing when nothing does.
std::optional<std::string> path_fault(std::string_view path);

/// The place that `path` means, absolute, with every symbolic link on it followed.
///
/// What does not exist stays as it is written, and so does a link of a circle of links and a path
/// longer than the system takes: that nothing is there is found out by who opens it.
std::string real_path(const std::string& path);

/// Whether the real path `path` is `folder`, also a real path, or lies below it.
bool is_within(std::string_view path, std::string_view folder);

}  // namespace keepstep::internal
