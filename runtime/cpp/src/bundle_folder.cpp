#include "bundle_folder.h"

#include <system_error>
#include <utility>

#include "bundle_files.h"
#include "error.h"
#include "files.h"
#include "json.h"
#include "paths.h"
#include "plan_json.h"
#include "rules_values.h"
#include "sha256.h"
#include "validate.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

constexpr int attempts = 10;  // at opening a folder that is exchanged meanwhile

/// Rules 3 and 4 for the paths of a plan, and its name.
void check_plan_files(const Plan& plan, const std::string& name, const std::string& where,
                      const std::string& root, const Manifest& manifest) {
    const auto paths = plan_paths(plan);
    for (const auto& [place, path] : paths) check_path(root, path, where + ": " + place);
    for (const auto& [place, path] : paths) {
        if (!manifest.files.contains(path)) {
            throw_bundle_error(4, where + ": " + place + ": " + quote(path) +
                                      " is not listed in bundle.json");
        }
    }
    if (plan.name != name) {
        throw_bundle_error(4, where + ": name: expected " + quote(name) + ", found " +
                                  quote(plan.name));
    }
}

}  // namespace

BundleFolder::BundleFolder(const std::string& path, bool verify_hashes)
    : path_(path), verify_hashes_(verify_hashes) {
    for (int attempt = 0; attempt < attempts; ++attempt) {
        if (look()) return;
    }
    throw_bundle_error(0, escape(path_) + ": was exchanged " + std::to_string(attempts) +
                              " times while it was opened; open it again when that has come to an "
                              "end");
}

bool BundleFolder::look() {
    const auto is_exchanged = [&] { return snapshot_ && !snapshot_->is_in_place(); };
    snapshot_.reset();
    try {
        if (!is_folder(path_)) {
            throw_bundle_error(0, escape(path_) + ": there is no such folder; expected a bundle");
        }
        snapshot_.emplace(path_);
        root_ = real_path(path_);
        manifest_ = read_manifest(*snapshot_, path_, root_);
        check_manifest(*snapshot_, root_, manifest_, verify_hashes_);
        return true;
    } catch (const std::system_error& error) {
        if (is_exchanged()) return false;
        throw_bundle_error(0, escape(path_) + ": cannot be read: " + error.what());
    } catch (const Error&) {
        if (is_exchanged()) return false;
        throw;
    }
}

const Plan& BundleFolder::plan(const std::string& name) {
    const std::lock_guard<std::recursive_mutex> lock(reading_);
    const auto found = plans_.find(name);
    if (found != plans_.end()) return *found->second;
    bool known = false;
    for (const std::string& plan : manifest_.plans) known = known || plan == name;
    if (!known) {
        throw_input_error("bundle " + escape(path_) + " has no plan " + quote(name) +
                          did_you_mean(name, manifest_.plans) +
                          "; its plans: " + quote_names(manifest_.plans));
    }
    auto plan = std::make_unique<const Plan>(read_plan(name));
    return *plans_.emplace(name, std::move(plan)).first->second;
}

Plan BundleFolder::read_plan(const std::string& name) {
    const std::string where = "plans/" + name + ".json";
    Plan plan;
    try {
        plan = plan_from_json(read_text(open(where), max_json_bytes + 1), where);
        check_plan_files(plan, name, where, root_, manifest_);
    } catch (const std::system_error& error) {
        throw_bundle_error(0, escape(path_) + "/" + where + ": cannot be read: " + error.what());
    }
    check_plan(
        plan,
        [this](const std::string& path, const std::string& tensor) {
            return tensors(path).type(tensor);
        },
        where);
    return plan;
}

const TensorFile& BundleFolder::tensors(const std::string& path) {
    const std::lock_guard<std::recursive_mutex> lock(reading_);
    const auto found = tensor_files_.find(path);
    if (found != tensor_files_.end()) return *found->second;
    try {
        auto tensors = std::make_unique<const TensorFile>(open(path), escape(path));
        return *tensor_files_.emplace(path, std::move(tensors)).first->second;
    } catch (const std::system_error& error) {
        throw_bundle_error(10, escape(path) + ": cannot be read: " + error.what());
    }
}

Pages BundleFolder::read(const std::string& path) const {
    try {
        Pages pages = Pages::of_file(open(path));
        if (verify_hashes_) {
            Sha256 digest;
            digest.add(pages.data(), pages.size());
            if (digest.hex_digest() != manifest_.files.at(path).sha256) snapshot_->refuse(path);
        }
        return pages;
    } catch (const std::system_error& error) {
        throw_bundle_error(0, escape(path_) + "/" + escape(path) + ": cannot be read: " + error.what());
    }
}

File BundleFolder::open(const std::string& path) const {
    if (!manifest_.files.contains(path)) {
        throw_bundle_error(4, escape(path_) + ": " + quote(path) + " is not listed in bundle.json");
    }
    return snapshot_->open(path);
}

}  // namespace keepstep::internal
