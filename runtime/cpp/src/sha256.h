// SHA-256, as FIPS 180-4 describes it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace keepstep::internal {

using Sha256State = std::array<std::uint32_t, 8>;
/// Takes blocks of 64 bytes into a state.
using Sha256Blocks = void (*)(Sha256State& state, const std::uint8_t* blocks, std::size_t count);

extern const std::array<std::uint32_t, 64> sha256_constants;

/// For every machine.
void sha256_blocks(Sha256State& state, const std::uint8_t* blocks, std::size_t count);
/// What is fastest on this machine: with the instructions that x86 has for it, ten times as fast.
Sha256Blocks fastest_sha256_blocks();

/// A digest in the making: add bytes in pieces of any size, then ask once for the digits.
class Sha256 {
  public:
    explicit Sha256(Sha256Blocks take_blocks = fastest_sha256_blocks())
        : take_blocks_(take_blocks) {}

    void add(const void* data, std::size_t size);
    /// The digest as 64 small hex digits; nothing can be added behind it.
    std::string hex_digest();

  private:
    Sha256Blocks take_blocks_;
    Sha256State state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                          0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<std::uint8_t, 64> block_{};
    std::uint64_t bytes_ = 0;
};

}  // namespace keepstep::internal
