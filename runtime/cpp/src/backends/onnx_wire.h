// Protobuf's wire format: the fields of a message, each found and none copied.
//
// Only what an ONNX file of ours is made of: no groups, no numbers of 64 fixed bits, no padding.
// Source: https://protobuf.dev/programming-guides/encoding/
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace keepstep::internal {

/// A file is not the ONNX code of a stage; it never leaves the check.
struct OnnxFault {
    std::string message;
};

/// The wire types that there are.
enum class Wire { varint = 0, bytes = 2, fixed32 = 5 };

/// A field that a kind of message may have.
struct FieldKind {
    std::uint64_t number = 0;
    Wire wire = Wire::varint;
    const char* name = nullptr;
    bool many = false;  // it may come again and again
};

/// A kind of message; fields that are not named here are refused.
struct MessageKind {
    const char* name;
    std::array<FieldKind, 8> fields;  // those without a name are not there
};

/// A field that was found: an integer of 64 bits without sign, or the bytes of anything else.
struct Field {
    std::uint64_t number;
    std::uint64_t value;
    std::string_view bytes;
};

/// How often a field may come that may come again and again.
constexpr std::size_t most_again = 4096;
constexpr std::size_t no_limit = SIZE_MAX;

/// Gives each field of a message in order. Throws an `OnnxFault`.
void read_fields(const MessageKind& kind, std::string_view message,
                 const std::function<void(const Field&)>& take, std::size_t most = most_again);

}  // namespace keepstep::internal
