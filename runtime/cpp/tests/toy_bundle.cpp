#include "toy_bundle.h"

#include <stdlib.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

#include "files.h"
#include "keepstep/bundle.h"

namespace keepstep::tests {

namespace fs = std::filesystem;

TemporaryFolder::TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "keepstep-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
}

std::string read(const fs::path& file) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) throw std::runtime_error("cannot read " + file.string());
    return {std::istreambuf_iterator<char>(stream), {}};
}

void write(const fs::path& file, const std::string& content) {
    std::ofstream stream(file, std::ios::binary);
    stream << content;
    if (!stream.flush()) throw std::runtime_error("cannot write " + file.string());
}

std::string replaced(std::string text, const std::string& old, const std::string& by) {
    const std::size_t at = text.find(old);
    if (at == text.npos) throw std::runtime_error("no " + old + " in " + text);
    return text.replace(at, old.size(), by);
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

bool printable(const std::string& text) {
    return std::none_of(text.begin(), text.end(), [](char c) {
        return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
    });
}

std::string plan_text(const std::string& name) { return read(fs::path(KEEPSTEP_PLANS) / name); }

std::vector<fs::path> plan_files(const std::string& folder) {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(fs::path(KEEPSTEP_PLANS) / folder)) {
        if (entry.path().extension() == ".json") found.push_back(entry.path());
    }
    std::sort(found.begin(), found.end());
    return found;
}

std::string safetensors_of_header(const std::string& header, const std::string& data) {
    std::string length(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) {
        length[i] = static_cast<char>(std::uint64_t{header.size()} >> 8 * i & 0xFF);
    }
    return length + header + data;
}

std::string safetensors(const std::map<std::string, FileTensor>& tensors, int pad) {
    std::ostringstream header;
    std::string data;
    for (const auto& [name, tensor] : tensors) {
        header << (data.empty() && header.str().empty() ? "{" : ", ") << '"' << name
               << R"(": {"dtype": ")" << tensor.dtype << R"(", "shape": [)";
        for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
            header << (i == 0 ? "" : ", ") << tensor.shape[i];
        }
        header << R"(], "data_offsets": [)" << data.size() << ", "
               << data.size() + tensor.bytes.size() << "]}";
        data += tensor.bytes;
    }
    const std::string text = tensors.empty() ? "{" : header.str();
    return safetensors_of_header(text + "}" + std::string(static_cast<std::size_t>(pad), ' '),
                                 data);
}

std::string float_bytes(const std::vector<float>& values) {
    std::string bytes(values.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
}

void write_bundle(const fs::path& folder) {
    fs::create_directories(folder / "plans");
    fs::create_directories(folder / "stages");
    write(folder / "plans/toy.json", plan_text("valid/toy.json"));
    write(folder / "plans/toy.safetensors",
          safetensors({{"coef", {"F32", {3, 3}, float_bytes({1, 2, 3, 4, 5, 6, 7, 8, 9})}},
                       {"times", {"F32", {2, 4}, float_bytes({1, 2, 3, 4, 5, 6, 7, 8})}}}));
    write(folder / "weights.safetensors",
          safetensors({{"unet.kernel", {"F32", {4, 4}, float_bytes(std::vector<float>(16, 2))}}}));
    for (const char* stage : {"text", "full", "shallow", "final", "decode"}) {
        write(folder / "stages" / (std::string(stage) + "-00.onnx"), "x");
    }
    seal(folder);
}

void seal(const fs::path& folder, const std::string& plans, const std::string& tokenizers) {
    std::ostringstream files;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        const std::string path = entry.path().lexically_relative(folder).generic_string();
        if (!entry.is_regular_file() || path == "bundle.json") continue;
        files << (files.str().empty() ? "" : ", ") << '"' << path << R"(": {"bytes": )"
              << entry.file_size() << R"(, "sha256": ")"
              << internal::file_sha256(internal::File(entry.path().string())) << "\"}";
    }
    write(folder / "bundle.json",
          R"({"keepstep": 2, "producer": "tests", "model": {"name": "toy"}, "plans": )" + plans +
              R"(, "tokenizers": )" + tokenizers + R"(, "files": {)" + files.str() + "}}");
}

Status refusal(const fs::path& folder, const std::string& plan, bool verify_hashes) {
    BundleOptions options;
    options.verify_hashes = verify_hashes;
    const auto bundle = Bundle::open(folder.string(), options);
    if (!bundle.ok() || plan.empty()) return bundle.status();
    return bundle->player(plan, "null").status();
}

}  // namespace keepstep::tests
