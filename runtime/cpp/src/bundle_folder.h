// A bundle's folder: bundle.json, the files that it lists, and what is read from them once.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "plan.h"
#include "shared.h"
#include "snapshot.h"
#include "tensors.h"

namespace keepstep::internal {

/// A folder whose files have been found whole. Any thread may use it.
///
/// It stays what it was when it was opened: where the folder is exchanged, or a file of it, what
/// has not been read by then is refused as a bundle error.
class BundleFolder {
  public:
    /// Reads bundle.json and checks every file that it lists (rules 1 to 7).
    /// `verify_hashes=false` compares sizes only. Throws a bundle error.
    BundleFolder(const std::string& path, bool verify_hashes);

    /// As it was given, for messages.
    const std::string& path() const { return path_; }
    const Manifest& manifest() const { return manifest_; }

    /// A plan, parsed and checked when it is first asked for; it lives as long as this.
    /// Throws an input error for an unknown name and a bundle error for one that breaks a rule.
    const Plan& plan(const std::string& name);

    /// A safetensors file of the bundle, mapped once. Throws a bundle error.
    const TensorFile& tensors(const std::string& file);

    /// The bytes of a file of the bundle, mapped; their SHA-256 is compared once more, unless the
    /// bundle was opened without that. Throws a bundle error.
    Pages read(const std::string& path) const;

    /// Where a file of the bundle lay when it was opened: for what is kept beside it.
    std::string place(const std::string& path) const { return root_ + "/" + path; }

    /// What the players of this bundle have in common.
    Shared& shared() { return shared_; }

  private:
    /// Reads and checks; false where the folder was exchanged meanwhile.
    bool look();
    /// Opens a file that is listed, the one that was looked at.
    File open(const std::string& path) const;
    Plan read_plan(const std::string& name);

    std::string path_;
    bool verify_hashes_;
    std::string root_;  // the path, absolute and without symbolic links
    std::optional<Snapshot> snapshot_;
    Manifest manifest_;
    std::recursive_mutex reading_;  // plans read tensors
    std::map<std::string, std::unique_ptr<const Plan>> plans_;
    std::map<std::string, std::unique_ptr<const TensorFile>> tensor_files_;
    Shared shared_;
};

}  // namespace keepstep::internal
