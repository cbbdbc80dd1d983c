// A bundle's folder: bundle.json, the files that it lists, and what is read from them once.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "plan.h"
#include "shared.h"
#include "tensors.h"

namespace keepstep::internal {

/// A folder whose files have been found whole. Any thread may use it.
class BundleFolder {
  public:
    /// Reads bundle.json and checks every file that it lists (rules 1 to 5).
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

    /// Where on this machine a file of the bundle lies. Throws a bundle error (rules 3, 4).
    std::string file(const std::string& path) const;

    /// What the players of this bundle have in common.
    Shared& shared() { return shared_; }

  private:
    Plan read_plan(const std::string& name);

    std::string path_;
    std::string root_;  // the same, absolute and without symbolic links
    Manifest manifest_;
    std::recursive_mutex reading_;  // plans read tensors
    std::map<std::string, std::unique_ptr<const Plan>> plans_;
    std::map<std::string, std::unique_ptr<const TensorFile>> tensor_files_;
    Shared shared_;
};

}  // namespace keepstep::internal
