#include "tensors.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "error.h"
#include "node.h"
#include "quoting.h"

namespace keepstep::internal {
namespace {

constexpr std::size_t length_bytes = 8;
constexpr std::size_t max_header_bytes = 100'000'000;  // as the format's own library has it

struct Known {
    const char* name;   // in a safetensors file
    const char* dtype;  // in a plan; the same where plans do not know it
    int bits;
};

constexpr Known dtypes[] = {
    {"F32", "float32", 32},
    {"F16", "float16", 16},
    {"BF16", "bfloat16", 16},
    {"I64", "int64", 64},
    {"I32", "int32", 32},
    {"U8", "uint8", 8},
    {"BOOL", "bool", 8},
    {"C64", "C64", 64},
    {"F64", "F64", 64},
    {"U64", "U64", 64},
    {"U32", "U32", 32},
    {"I16", "I16", 16},
    {"U16", "U16", 16},
    {"I8", "I8", 8},
    {"F8_E4M3", "F8_E4M3", 8},
    {"F8_E4M3FNUZ", "F8_E4M3FNUZ", 8},
    {"F8_E5M2", "F8_E5M2", 8},
    {"F8_E5M2FNUZ", "F8_E5M2FNUZ", 8},
    {"F8_E8M0", "F8_E8M0", 8},
    {"F6_E2M3", "F6_E2M3", 6},
    {"F6_E3M2", "F6_E3M2", 6},
    {"F4", "F4", 4},
};

const Known& known_dtype(const Node& node) {
    for (const Known& known : dtypes) {
        if (node.text() == known.name) return known;
    }
    node.refuse("unknown dtype " + quote(node.text()));
}

/// One tensor, its place counted from the header's end.
TensorEntry entry_of(const Node& node) {
    const Known& known = known_dtype(node.field("dtype"));
    TensorEntry entry;
    entry.type.dtype = known.dtype;
    entry.item_bytes = static_cast<std::size_t>(known.bits + 7) / 8;
    std::int64_t bits = known.bits;
    const Node shape = node.field("shape");
    shape.each_element([&](const Node& element) {
        const std::int64_t axis = element.integer();
        if (axis != 0 && bits > std::numeric_limits<std::int64_t>::max() / axis) {
            shape.refuse("more elements than can be counted");
        }
        bits *= axis;
        entry.type.shape.push_back(axis);
    });
    if (bits % 8 != 0) shape.refuse("the last byte is not full");
    const std::int64_t bytes = bits / 8;
    const Node offsets = node.field("data_offsets");
    if (offsets.size() != 2) offsets.expected("[begin, end]");
    const std::int64_t begin = offsets.element(0).integer();
    const std::int64_t end = offsets.element(1).integer();
    if (begin > end || end - begin != bytes) {
        offsets.refuse("bytes " + std::to_string(begin) + " to " + std::to_string(end) +
                       " for a tensor of " + std::to_string(bytes) + " bytes");
    }
    entry.begin = static_cast<std::size_t>(begin);
    entry.bytes = static_cast<std::size_t>(bytes);
    return entry;
}

std::map<std::string, TensorEntry> entries_of(std::string_view file, const std::string& place) {
    if (file.size() < length_bytes) throw_bundle_error(10, place + ": too short for a header");
    std::uint64_t length = 0;
    for (std::size_t i = length_bytes; i-- > 0;) {
        length = length << 8 | static_cast<unsigned char>(file[i]);
    }
    if (length > max_header_bytes || length > file.size() - length_bytes) {
        throw_bundle_error(10, place + ": claims a header of " + std::to_string(length) +
                                   " bytes, the file has " + std::to_string(file.size()));
    }
    const std::size_t start = length_bytes + static_cast<std::size_t>(length);
    const std::string_view text = file.substr(length_bytes, static_cast<std::size_t>(length));
    const Json json = parse_json(text, place, max_header_bytes);
    const Node root(json, place);
    std::map<std::string, TensorEntry> entries;
    std::vector<std::pair<std::size_t, std::size_t>> ranges;
    root.each_member([&](const std::string& name, const Node& node) {
        if (name == "__metadata__") {
            if (!node.is_null()) {
                node.each_member([](const std::string&, const Node& note) { note.text(); });
            }
            return;
        }
        TensorEntry entry = entry_of(node);
        ranges.emplace_back(entry.begin, entry.begin + entry.bytes);
        entry.begin += start;
        entries.emplace(name, std::move(entry));
    });
    // The tensors fill the file without a hole, so each lies within it.
    std::sort(ranges.begin(), ranges.end());
    std::size_t end = 0;
    for (const auto& [first, last] : ranges) {
        if (first != end) root.refuse("a hole or an overlap at byte " + std::to_string(end));
        end = last;
    }
    if (end != file.size() - start) {
        root.refuse("its tensors have " + std::to_string(end) + " bytes, the file holds " +
                    std::to_string(file.size() - start));
    }
    return entries;
}

}  // namespace

std::map<std::string, TensorEntry> tensor_entries(std::string_view file, const std::string& where) {
    try {
        return entries_of(file, where + ": not a safetensors file");
    } catch (const Error& error) {
        // What the reader of JSON calls rule 1 is rule 10 here.
        const std::string_view text = error.message;
        throw_bundle_error(10, std::string(text.substr(0, text.rfind(" (rule "))));
    }
}

TensorFile::TensorFile(const File& file, const std::string& where)
    : pages_(Pages::of_file(file)),
      entries_(tensor_entries({reinterpret_cast<const char*>(pages_.data()), pages_.size()},
                              where)) {}

std::vector<std::string> TensorFile::names() const {
    std::vector<std::string> found;
    for (const auto& [name, _] : entries_) found.push_back(name);
    return found;
}

std::optional<Type> TensorFile::type(const std::string& name) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) return std::nullopt;
    return found->second.type;
}

const std::byte* TensorFile::data(const std::string& name) const {
    const TensorEntry& entry = entries_.at(name);
    const std::byte* mapped = pages_.data() + entry.begin;
    if (entry.begin % entry.item_bytes == 0) return mapped;  // pages begin at every multiple
    const std::lock_guard<std::mutex> lock(copying_);
    std::unique_ptr<std::byte[]>& copy = copies_[name];
    if (copy == nullptr) {
        copy = std::make_unique<std::byte[]>(entry.bytes);
        std::memcpy(copy.get(), mapped, entry.bytes);
    }
    return copy.get();
}

}  // namespace keepstep::internal
