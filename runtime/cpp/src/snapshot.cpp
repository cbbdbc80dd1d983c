#include "snapshot.h"

#include <utility>

#include "error.h"
#include "quoting.h"

namespace keepstep::internal {

std::optional<File> Snapshot::note(const std::string& path) {
    std::optional<File> file = folder_.find(path);
    if (file) known_[path] = file->identity();
    return file;
}

File Snapshot::open(const std::string& path) const {
    std::optional<File> file = folder_.find(path);
    if (!file || !(file->identity() == known_.at(path))) refuse(path);
    return *std::move(file);
}

void Snapshot::refuse(const std::string& path) const {
    throw_bundle_error(0, "bundle " + escape(name_) + ": " + quote(path) +
                              " was replaced since it was opened; open the bundle again");
}

}  // namespace keepstep::internal
