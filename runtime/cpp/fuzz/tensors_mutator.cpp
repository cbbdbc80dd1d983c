// Most mutations of a safetensors file change the length of its header, and end at its first check.
// So most of them get a fitting length.
#include <algorithm>
#include <cstddef>
#include <cstdint>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned int seed) {
    constexpr std::size_t length_bytes = 8;
    constexpr unsigned left_alone = 8;  // one of so many
    const std::size_t found = LLVMFuzzerMutate(data, size, most);
    if (found < length_bytes || seed % left_alone == 0) return found;
    // Bytes of tensors are seldom a brace: the last one ends the header.
    const std::uint8_t* end = data + found;
    while (end > data + length_bytes && end[-1] != '}') --end;
    auto length = static_cast<std::uint64_t>(end - data) - length_bytes;
    std::generate_n(data, length_bytes, [&length] {
        const auto byte = static_cast<std::uint8_t>(length & 0xFF);
        length >>= 8;
        return byte;
    });
    return found;
}
