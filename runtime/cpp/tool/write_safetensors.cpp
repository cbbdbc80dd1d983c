#include "write_safetensors.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>

namespace keepstep::tool {
namespace {

const char* name_in_file(DType dtype) {
    switch (dtype) {
        case DType::float32: return "F32";
        case DType::float16: return "F16";
        case DType::bfloat16: return "BF16";
        case DType::int64: return "I64";
        case DType::int32: return "I32";
        case DType::uint8: return "U8";
        case DType::boolean: return "BOOL";
    }
    return "";
}

}  // namespace

std::string safetensors_of(std::vector<ConstTensor> tensors) {
    // The widest elements first: so all of them lie aligned.
    std::stable_sort(tensors.begin(), tensors.end(), [](const auto& one, const auto& other) {
        return item_bytes(one.dtype) > item_bytes(other.dtype);
    });
    nlohmann::ordered_json entries = nlohmann::ordered_json::object();
    std::size_t end = 0;
    for (const ConstTensor& tensor : tensors) {
        const std::size_t begin = end;
        end += tensor.bytes;
        entries[std::string(tensor.name)] = {{"dtype", name_in_file(tensor.dtype)},
                                             {"shape", tensor.shape},
                                             {"data_offsets", {begin, end}}};
    }
    std::string header = entries.dump();
    header.resize((header.size() + 7) / 8 * 8, ' ');
    std::string file;
    file.reserve(8 + header.size() + end);
    for (int bit = 0; bit < 64; bit += 8) {
        file += static_cast<char>(std::uint64_t{header.size()} >> bit & 0xFF);
    }
    file += header;
    for (const ConstTensor& tensor : tensors) {
        file.append(static_cast<const char*>(tensor.data), tensor.bytes);
    }
    return file;
}

}  // namespace keepstep::tool
