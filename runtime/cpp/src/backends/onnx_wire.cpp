#include "backends/onnx_wire.h"

#include <algorithm>

namespace keepstep::internal {
namespace {

constexpr int most_bits = 64;

/// Takes an integer of 64 bits without sign from the front.
std::uint64_t varint(std::string_view& rest) {
    std::uint64_t value = 0;
    for (int shift = 0; shift < most_bits; shift += 7) {
        if (rest.empty()) throw OnnxFault{"a number ends behind its message: the file is cut"};
        const auto byte = static_cast<unsigned char>(rest.front());
        rest.remove_prefix(1);
        const std::uint64_t bits = byte & 0x7F;
        const bool lost = (bits << shift) >> shift != bits;
        value |= bits << shift;
        if (lost || (byte == 0 && shift > 0)) break;
        if (byte < 0x80) return value;
    }
    throw OnnxFault{"a number has more bytes than it needs, or more than 64 bits"};
}

}  // namespace

void read_fields(const MessageKind& kind, std::string_view message,
                 const std::function<void(const Field&)>& take, std::size_t most) {
    std::array<std::size_t, std::tuple_size_v<decltype(MessageKind::fields)>> times{};
    const std::string a_kind = std::string("a ") + kind.name;
    while (!message.empty()) {
        const std::uint64_t tag = varint(message);
        const auto known = std::find_if(
            kind.fields.begin(), kind.fields.end(), [&](const FieldKind& field) {
                return field.name != nullptr &&
                       tag == (field.number << 3 | static_cast<std::uint64_t>(field.wire));
            });
        if (known == kind.fields.end()) {
            throw OnnxFault{a_kind + " has field " + std::to_string(tag >> 3) + " in wire type " +
                            std::to_string(tag & 7) + ", which no engine of ours has"};
        }
        std::size_t& before = times[static_cast<std::size_t>(known - kind.fields.begin())];
        if (!known->many && before == 1) {
            throw OnnxFault{a_kind + " has its " + known->name + " twice"};
        }
        if (before++ == most) {
            throw OnnxFault{a_kind + " has more than " + std::to_string(most) + " of " +
                            known->name};
        }
        if (known->wire == Wire::varint) {
            take({known->number, varint(message), {}});
            continue;
        }
        const std::uint64_t length = known->wire == Wire::bytes ? varint(message) : 4;
        if (length > message.size()) {
            throw OnnxFault{std::string("the ") + known->name + " of " + a_kind +
                            " ends behind it: the file is cut"};
        }
        const auto bytes = message.substr(0, static_cast<std::size_t>(length));
        message.remove_prefix(bytes.size());
        take({known->number, 0, bytes});
    }
}

}  // namespace keepstep::internal
