#include "bundle_files.h"

#include <set>
#include <utility>
#include <vector>

#include "error.h"
#include "files.h"
#include "json.h"
#include "paths.h"
#include "plan_json.h"
#include "rules_values.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

const std::string manifest_name = "bundle.json";
constexpr std::int64_t longest_prompt = std::int64_t{1} << 20;  // ids

/// Rule 4 for one file.
void check_file(Snapshot& snapshot, const std::string& path, const FileEntry& entry,
                bool verify_hashes) {
    const std::string place = escape(path) + ": ";
    const std::optional<File> file = snapshot.note(path);
    if (!file) {
        throw_bundle_error(4, place + "is missing, or no plain file; copy the bundle again");
    }
    if (file->size() != static_cast<std::uint64_t>(entry.bytes)) {
        throw_bundle_error(4, place + std::to_string(file->size()) + " bytes, expected " +
                                  std::to_string(entry.bytes) +
                                  "; cut or altered, copy the bundle again");
    }
    if (!verify_hashes) return;
    if (const std::string digest = file_sha256(*file); digest != entry.sha256) {
        throw_bundle_error(4, place + "SHA-256 " + digest + ", expected " + entry.sha256 +
                                  "; altered, copy the bundle again");
    }
}

using Places = std::vector<std::pair<std::string, std::string>>;  // place, path

/// The paths of files and tokenizers.
Places used_paths(const Manifest& manifest) {
    Places used;
    for (const auto& [path, _] : manifest.files) used.emplace_back("files." + escape(path), path);
    for (const auto& [name, tokenizer] : manifest.tokenizers) {
        used.emplace_back("tokenizers." + escape(name) + ".file", tokenizer.file);
    }
    return used;
}

void check_names(const Manifest& manifest) {
    std::set<std::string> seen;
    for (const std::string& name : manifest.plans) {
        if (!seen.insert(name).second) {
            throw_bundle_error(4, manifest_name + ": plans: " + quote(name) + " appears twice");
        }
    }
    for (std::size_t i = 0; i < manifest.plans.size(); ++i) {
        if (const Finding fault = plan_name_fault(manifest.plans[i])) {
            throw_bundle_error(5, manifest_name + ": plans[" + std::to_string(i) + "]: " + *fault);
        }
    }
    for (const auto& [name, _] : manifest.tokenizers) {
        if (const Finding fault = name_fault(name)) {
            throw_bundle_error(5, manifest_name + ": tokenizers: " + *fault);
        }
    }
    for (const auto& [name, tokenizer] : manifest.tokenizers) {
        if (tokenizer.length >= 1 && tokenizer.length <= longest_prompt) continue;
        throw_bundle_error(7, manifest_name + ": tokenizers." + name + ".length: " +
                                  std::to_string(tokenizer.length) +
                                  ", expected 1 to 2^20 ids a prompt");
    }
}

}  // namespace

Manifest read_manifest(Snapshot& snapshot, const std::string& folder, const std::string& root) {
    contained(root, manifest_name, manifest_name);
    const std::optional<File> file = snapshot.note(manifest_name);
    if (!file) {
        throw_bundle_error(0, escape(folder) + ": no " + manifest_name +
                                  " in it, so it is no bundle; make one with `keepstep export`");
    }
    return manifest_from_json(read_text(*file, max_json_bytes + 1), manifest_name);
}

void check_manifest(Snapshot& snapshot, const std::string& root, const Manifest& manifest,
                    bool verify_hashes) {
    Places used = used_paths(manifest);
    for (const auto& [place, path] : used) check_path(root, path, manifest_name + ": " + place);
    for (const auto& [path, entry] : manifest.files) {
        check_file(snapshot, path, entry, verify_hashes);
    }
    for (std::size_t i = 0; i < manifest.plans.size(); ++i) {
        used.emplace_back("plans[" + std::to_string(i) + "]",
                          "plans/" + manifest.plans[i] + ".json");
    }
    for (const auto& [place, path] : used) {
        if (!manifest.files.contains(path)) {
            throw_bundle_error(4, manifest_name + ": " + place + ": " + quote(path) +
                                      " is not listed in `files`");
        }
    }
    check_names(manifest);
}

std::string contained(const std::string& root, const std::string& path, const std::string& place) {
    std::string real = real_path(root + "/" + path);
    if (!is_within(real, root)) {
        throw_bundle_error(3, place + ": a symbolic link leads " + quote(path) +
                                  " out of the bundle, to " + quote(real));
    }
    return real;
}

void check_path(const std::string& root, const std::string& path, const std::string& place) {
    if (const auto fault = path_fault(path)) {
        throw_bundle_error(3, place + ": path " + quote(path) + " " + *fault);
    }
    contained(root, path, place);
}

}  // namespace keepstep::internal
