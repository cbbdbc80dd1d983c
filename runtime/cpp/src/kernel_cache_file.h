// A file that it is good to have and that nothing fails without: a cache beside what it is of.
#pragma once

#include <cstddef>
#include <string>

namespace keepstep::internal {

/// The whole file; nothing where there is none that can be read.
std::string kept_bytes(const std::string& path);

/// Puts `bytes` in the place of the file, at once or not at all: readers find the old or the new
/// one. False where it cannot be written, as in a folder that is read-only.
bool keep_bytes(const std::string& path, const void* bytes, std::size_t size);

}  // namespace keepstep::internal
