// A bundle of the toy plan of tests/plans, written where a test may damage it.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "keepstep/status.h"

namespace keepstep::tests {

/// A folder that is gone with the test.
class TemporaryFolder {
  public:
    TemporaryFolder();
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    ~TemporaryFolder();

    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

std::string read(const std::filesystem::path& file);
void write(const std::filesystem::path& file, const std::string& content);
/// `text` with the first `old` in it replaced; there is one.
std::string replaced(std::string text, const std::string& old, const std::string& by);

/// Whether `part` stands in `text`.
bool contains(const std::string& text, const std::string& part);
/// Whether a message is one readable line, whatever it quotes.
bool printable(const std::string& text);

/// A file of tests/plans, such as "valid/toy.json".
std::string plan_text(const std::string& name);
/// The files of a folder of tests/plans, such as "bad".
std::vector<std::filesystem::path> plan_files(const std::string& folder);

/// A tensor of a safetensors file, as its header describes it.
struct FileTensor {
    std::string dtype;
    std::vector<int> shape;
    std::string bytes;
};
/// A safetensors file; `pad` blanks follow the header.
std::string safetensors(const std::map<std::string, FileTensor>& tensors, int pad = 0);
/// A safetensors file with this header over these bytes.
std::string safetensors_of_header(const std::string& header, const std::string& data = "");

/// The bytes of floats.
std::string float_bytes(const std::vector<float>& values);

/// Writes the toy plan with constants, and engines of one byte.
void write_bundle(const std::filesystem::path& folder);
/// Writes bundle.json for the files as they are; `plans` and `tokenizers` are JSON.
void seal(const std::filesystem::path& folder, const std::string& plans = R"(["toy"])",
          const std::string& tokenizers = "{}");

/// What opening a bundle, and a plan of it unless that is empty, is refused with.
Status refusal(const std::filesystem::path& folder, const std::string& plan = "toy",
               bool verify_hashes = true);

}  // namespace keepstep::tests
